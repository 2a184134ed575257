/*
 * Migration pipeline: the settings of a migration
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/migration.h"
#include "migration/misc.h"
#include "migration/options.h"
#include "qapi/error.h"
#include "settings.h"

PipelineSettings migration_settings_get(MigrationState *s)
{
    const bool *caps = s->capabilities;

    return (PipelineSettings) {
        .return_path = caps[MIGRATION_CAPABILITY_RETURN_PATH],
        .auto_converge = caps[MIGRATION_CAPABILITY_AUTO_CONVERGE],
        .dirty_limit = caps[MIGRATION_CAPABILITY_DIRTY_LIMIT],
        .postcopy_ram = caps[MIGRATION_CAPABILITY_POSTCOPY_RAM],
        .multifd = caps[MIGRATION_CAPABILITY_MULTIFD],
        .mapped_ram = caps[MIGRATION_CAPABILITY_MAPPED_RAM],
        .xbzrle = caps[MIGRATION_CAPABILITY_XBZRLE],
        .zero_copy = caps[MIGRATION_CAPABILITY_ZERO_COPY_SEND],
        .compression = s->parameters.multifd_compression,
        .max_bandwidth = s->parameters.max_bandwidth,
        .downtime_limit = s->parameters.downtime_limit,
    };
}

void migration_settings_apply(MigrationState *s, const PipelineSettings *p)
{
    bool *caps = s->capabilities;

    caps[MIGRATION_CAPABILITY_RETURN_PATH] = p->return_path;
    caps[MIGRATION_CAPABILITY_AUTO_CONVERGE] = p->auto_converge;
    caps[MIGRATION_CAPABILITY_DIRTY_LIMIT] = p->dirty_limit;
    caps[MIGRATION_CAPABILITY_POSTCOPY_RAM] = p->postcopy_ram;
    caps[MIGRATION_CAPABILITY_MULTIFD] = p->multifd;
    caps[MIGRATION_CAPABILITY_MAPPED_RAM] = p->mapped_ram;
    caps[MIGRATION_CAPABILITY_XBZRLE] = p->xbzrle;
    caps[MIGRATION_CAPABILITY_ZERO_COPY_SEND] = p->zero_copy;
    s->parameters.multifd_compression = p->compression;
    s->parameters.max_bandwidth = p->max_bandwidth;
    s->parameters.downtime_limit = p->downtime_limit;
}

/* Reject capabilities that the pipeline does not support. */
static bool settings_check(Error **errp)
{
    static const MigrationCapability conflicts[] = {
        MIGRATION_CAPABILITY_BACKGROUND_SNAPSHOT,
        MIGRATION_CAPABILITY_X_COLO,
        MIGRATION_CAPABILITY_MAPPED_RAM,
    };
    MigrationState *s = migrate_get_current();

    for (unsigned i = 0; i < ARRAY_SIZE(conflicts); i++) {
        if (s->capabilities[conflicts[i]]) {
            error_setg(errp, "capability '%s' cannot go with the pipeline; "
                       "turn it off with migrate-set-capabilities",
                       MigrationCapability_str(conflicts[i]));
            return false;
        }
    }
    if (migrate_mode() != MIG_MODE_NORMAL) {
        error_setg(errp, "migration mode '%s' cannot go with the pipeline",
                   MigMode_str(migrate_mode()));
        return false;
    }
    return true;
}

bool migration_settings_may_start(Error **errp)
{
    if (migration_is_running()) {
        error_setg(errp, "a migration is under way; wait for its end, or "
                   "cancel it with migrate-pipeline-cancel");
        return false;
    }
    return settings_check(errp);
}
