/*
 * Migration pipeline: tell the network where the guest is
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/misc.h"
#include "net/announce.h"
#include "qapi/clone-visitor.h"
#include "qapi/qapi-commands-net.h"
#include "qapi/qapi-visit-net.h"
#include "system/runstate.h"
#include "announce.h"

/* An announcement replaces earlier ones with the same @id. */
static void announce(const char *id, const char *nic)
{
    g_autoptr(AnnounceParameters) params =
        QAPI_CLONE(AnnounceParameters, migrate_announce_params());

    g_free(params->id);
    params->id = g_strdup(id);
    if (nic) {
        qapi_free_strList(params->interfaces);
        params->interfaces = NULL;
        QAPI_LIST_PREPEND(params->interfaces, g_strdup(nic));
        params->has_interfaces = true;
    }
    qmp_announce_self(params, NULL);
}

void migration_announce_link_up(NetClientState *nc)
{
    g_autofree char *id = NULL;

    if (nc->info->type != NET_CLIENT_DRIVER_NIC) {
        nc = nc->peer;
    }
    /* While waiting for an incoming migration, the guest runs elsewhere. */
    if (!nc || nc->info->type != NET_CLIENT_DRIVER_NIC ||
        !runstate_is_running()) {
        return;
    }
    id = g_strdup_printf("link-up:%s", nc->name);
    announce(id, nc->name);
}

void migration_announce_back(void)
{
    announce("migration-back", NULL);
}
