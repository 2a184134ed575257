/*
 * Migration pipeline: commands
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "exec/target_page.h"
#include "migration/migration.h"
#include "migration/misc.h"
#include "migration/options.h"
#include "migration/ram.h"
#include "qapi/clone-visitor.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-migration.h"
#include "qapi/qapi-commands-pipeline.h"
#include "qapi/qapi-visit-pipeline.h"
#include "qapi/qapi-visit-sockets.h"
#include "qemu/main-loop.h"
#include "current.h"
#include "info.h"
#include "pipeline.h"
#include "preflight.h"
#include "quick.h"
#include "settings.h"

#define DEFAULT_MAX_BLACKOUT    300     /* ms */
#define MAX_BLACKOUT            2000000 /* ms; that of 'downtime-limit' */
#define MAX_THROTTLE            99

/* The destination's address, which must be bidirectional; to be freed */
static SocketAddress *pipeline_address(const char *uri,
                                       MigrationChannelList *channels,
                                       Error **errp)
{
    g_autoptr(MigrationChannel) channel = NULL;
    const MigrationChannel *main = NULL;

    if (!uri == !channels) {
        error_setg(errp, "either 'uri' or 'channels' says where to");
        return NULL;
    }
    if (uri) {
        if (!migrate_uri_parse(uri, &channel, errp)) {
            return NULL;
        }
        main = channel;
    }
    for (; channels && !main; channels = channels->next) {
        if (channels->value->channel_type == MIGRATION_CHANNEL_TYPE_MAIN) {
            main = channels->value;
        }
    }
    if (!main) {
        error_setg(errp, "'channels' has no main channel");
        return NULL;
    }
    if (main->addr->transport != MIGRATION_ADDRESS_TYPE_SOCKET) {
        error_setg(errp, "the pipeline needs a destination that can answer: "
                   "tcp:, unix:, vsock: or fd:, not %s:",
                   MigrationAddressType_str(main->addr->transport));
        return NULL;
    }
    return QAPI_CLONE(SocketAddress, &main->addr->u.socket);
}

/* Get the user's goal.  False and an error if it is invalid. */
static bool pipeline_goal(PipelineGoal *goal, const MigratePipelineWish *wish,
                          Error **errp)
{
    *goal = (PipelineGoal) {
        .max_blackout = 1000LL * (wish->has_max_blackout ? wish->max_blackout
                                                    : DEFAULT_MAX_BLACKOUT),
        .margin = wish->has_margin ? 1000LL * wish->margin : 0,
        .deadline = wish->has_deadline ? 1000000LL * wish->deadline : 0,
        .throttle_max = wish->has_allow_throttle ? wish->allow_throttle : 0,
        .postcopy = wish->has_allow_postcopy && wish->allow_postcopy,
        .compression = !wish->has_allow_compression ||
                       wish->allow_compression,
        .quick = wish->has_mode && (wish->mode == MIGRATE_PIPELINE_MODE_QUICK ||
                 (wish->mode == MIGRATE_PIPELINE_MODE_AUTO && !wish->uri &&
                  !wish->channels)),
        .ram_pages = ram_bytes_total() / qemu_target_page_size(),
    };
    if (goal->throttle_max > MAX_THROTTLE) {
        error_setg(errp, "'allow-throttle' is a percentage up to %d, not %u",
                   MAX_THROTTLE, goal->throttle_max);
        return false;
    }
    if (!goal->max_blackout || goal->max_blackout > MAX_BLACKOUT * 1000LL) {
        error_setg(errp, "'max-blackout' must be from 1 to %d ms",
                   MAX_BLACKOUT);
        return false;
    }
    if (goal->margin > MAX_BLACKOUT * 1000LL) {
        error_setg(errp, "'margin' must be from 0 to %d ms", MAX_BLACKOUT);
        return false;
    }
    if (goal->quick && (wish->uri || wish->channels)) {
        error_setg(errp, "quick migration goes through the volume, not to a "
                   "destination; leave out 'uri' and 'channels', or use mode "
                   "'auto'");
        return false;
    }
    if (wish->state && (!wish->has_mode ||
                        wish->mode == MIGRATE_PIPELINE_MODE_LIVE)) {
        error_setg(errp, "'state' is for the modes 'quick' and 'auto'");
        return false;
    }
    if (wish->has_deadline && !wish->deadline) {
        error_setg(errp, "'deadline' must be more than 0 s");
        return false;
    }
    return true;
}

static void pipeline_start(const MigratePipelineWish *wish,
                           const PipelineGoal *goal, QEMUBHFunc *or_else,
                           Error **errp)
{
    ERRP_GUARD();
    const char *uri = goal->quick ? "file:state" : wish->uri;

    migration_pipeline_arm(goal, wish->has_max_bandwidth ?
                                 wish->max_bandwidth : 0, !goal->quick,
                           or_else);
    if (!goal->quick || migration_quick_begin(wish->state, errp)) {
        qmp_migrate(uri, !uri, uri ? NULL : wish->channels, false, false,
                    false, false, errp);
    }
    if (*errp) {
        migration_pipeline_disarm();
    } else {
        migration_pipeline_armed(migrate_get_current());
    }
}

static void pipeline_fall_back_bh(void *opaque)
{
    g_autoptr(MigratePipelineWish) wish =
        g_steal_pointer(&migration_pipeline()->fallback);
    Error *err = NULL;
    PipelineGoal goal;

    g_clear_pointer(&wish->uri, g_free);
    g_clear_pointer(&wish->channels, qapi_free_MigrationChannelList);
    if (!pipeline_goal(&goal, wish, &err) ||
        !migration_settings_may_start(&err)) {
        migration_pipeline_failed(err);
        return;
    }
    pipeline_start(wish, &goal, NULL, &err);
    if (err) {
        error_prepend(&err, "the destination cannot be reached, and there is "
                      "no way through the volume: ");
        migration_pipeline_failed(err);
    }
}

void qmp_migrate_pipeline_start(MigratePipelineWish *wish, Error **errp)
{
    ERRP_GUARD();
    MigrationPipeline *mp = migration_pipeline();
    g_autoptr(SocketAddress) addr = NULL;
    PipelineGoal goal;

    if (!pipeline_goal(&goal, wish, errp) ||
        !migration_settings_may_start(errp)) {
        return;
    }
    addr = goal.quick ? NULL : pipeline_address(wish->uri, wish->channels,
                                                errp);
    if (!addr && !goal.quick) {
        return;
    }
    if (goal.postcopy && migrate_multifd()) {
        error_setg(errp, "'allow-postcopy' cannot go with the capability "
                   "'multifd'; turn one of them off");
        return;
    }
    g_clear_pointer(&mp->fallback, qapi_free_MigratePipelineWish);
    if (!goal.quick && wish->has_mode &&
        wish->mode == MIGRATE_PIPELINE_MODE_AUTO) {
        mp->fallback = QAPI_CLONE(MigratePipelineWish, wish);
    }
    pipeline_start(wish, &goal, mp->fallback ? pipeline_fall_back_bh : NULL,
                   errp);
}

MigratePipelinePlan *coroutine_fn
qmp_migrate_pipeline_plan(MigratePipelineWish *wish, Error **errp)
{
    g_autoptr(SocketAddress) addr = NULL;
    PipelineGoal goal;

    if (!pipeline_goal(&goal, wish, errp)) {
        return NULL;
    }
    if (wish->uri || wish->channels) {
        addr = pipeline_address(wish->uri, wish->channels, errp);
        if (!addr) {
            return NULL;
        }
    }
    return migration_preflight_co(&goal, addr);
}

void qmp_migrate_pipeline_cancel(Error **errp)
{
    if (!migration_is_running()) {
        error_setg(errp, "no migration is under way");
        return;
    }
    qmp_migrate_cancel(errp);
}

MigratePipelineInfo *qmp_query_migrate_pipeline(Error **errp)
{
    return migration_pipeline_info();
}
