/*
 * Migration pipeline: do not send pages that are already dirty again
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "exec/ram_addr.h"
#include "exec/target_page.h"
#include "migration/migration.h"
#include "migration/migration-stats.h"
#include "migration/ram.h"
#include "qemu/rcu_queue.h"
#include "qemu/timer.h"
#include "system/runstate.h"
#include "current.h"
#include "hot.h"
#include "hot-set.h"
#include "trace.h"

/* A sync sooner after another one is not significant; in microseconds. */
#define SOON    10000

struct PipelineHot {
    GHashTable *sets;       /* RAMBlock to HotSet, or NULL */
    bool on;                /* another sync will come */
    bool forbidden;         /* pages must not be left out */
    int64_t synced;         /* time of the last significant one */
    uint64_t pages;         /* deferred; atomic */
    uint64_t saved;         /* sends of pages avoided; atomic */
};

PipelineHot *migration_hot_new(void)
{
    return g_new0(PipelineHot, 1);
}

void migration_hot_reset(void)
{
    PipelineHot *h = migration_pipeline()->hot;

    g_clear_pointer(&h->sets, g_hash_table_destroy);
    h->on = h->forbidden = false;
    h->synced = 0;
    qatomic_set(&h->pages, 0);
    qatomic_set(&h->saved, 0);
}

static HotSet *hot_set_of(RAMBlock *block)
{
    PipelineHot *h = migration_pipeline()->hot;
    HotSet *set = g_hash_table_lookup(h->sets, block);

    if (!set) {
        set = hot_set_new(block->max_length >> qemu_target_page_bits());
        g_hash_table_insert(h->sets, block, set);
    }
    return set;
}

/* The first sync finds all memory dirty, so only later ones count. */
static bool hot_begin(void)
{
    PipelineHot *h = migration_pipeline()->hot;

    if (stat64_get(&mig_stats.dirty_sync_count) < 2) {
        return false;
    }
    if (!h->sets) {
        h->sets = g_hash_table_new_full(NULL, NULL, NULL,
                                        (GDestroyNotify)hot_set_free);
    }
    return true;
}

static void hot_end(void)
{
    PipelineHot *h = migration_pipeline()->hot;
    RAMBlock *block;

    RAMBLOCK_FOREACH_NOT_IGNORED(block) {
        hot_set_end(hot_set_of(block), block->bmap);
    }
    qatomic_set(&h->pages, 0);
}

uint64_t migration_hot_sync(bool last)
{
    PipelineHot *h = migration_pipeline()->hot;
    int64_t now = qemu_clock_get_us(QEMU_CLOCK_REALTIME);
    HotCount count = { 0 };
    uint64_t pages = 0;
    RAMBlock *block;
    bool likely;

    h->on = !last && runstate_is_running() &&
             migration_pipeline_drives(migrate_get_current()) && hot_begin();
    /* The guest may have stopped: do not scan empty bitmaps. */
    if (!h->sets || (!h->on && !h->pages)) {
        return 0;
    }
    RAMBLOCK_FOREACH_NOT_IGNORED(block) {
        hot_set_count(hot_set_of(block), block->bmap, &count);
    }
    qatomic_set(&h->saved, h->saved + count.both);
    if (!h->on) {
        hot_end();
        return count.both;
    }
    if (now - h->synced < SOON) {
        RAMBLOCK_FOREACH_NOT_IGNORED(block) {
            hot_set_sync_again(hot_set_of(block), block->bmap);
        }
        return count.both;
    }
    likely = !h->forbidden && hot_count_likely(&count);
    RAMBLOCK_FOREACH_NOT_IGNORED(block) {
        pages += hot_set_sync(hot_set_of(block), block->bmap, likely);
    }
    h->synced = now;
    qatomic_set(&h->pages, pages);
    trace_migration_hot_sync(count.last, count.last_again, count.twice,
                             count.twice_again, pages);
    return count.both;
}

bool migration_hot_skip(RAMBlock *block, unsigned long page)
{
    PipelineHot *h = migration_pipeline()->hot;

    ram_addr_t addr = block->offset +
                      ((ram_addr_t)page << qemu_target_page_bits());

    if (!h->on || !h->pages || h->forbidden ||
        !cpu_physical_memory_get_dirty_flag(addr, DIRTY_MEMORY_MIGRATION)) {
        return false;
    }
    qatomic_set(&h->saved, h->saved + 1);
    return true;
}

void migration_hot_permit(bool yes)
{
    PipelineHot *h = migration_pipeline()->hot;

    h->forbidden = !yes;
}

uint64_t migration_hot_pages(void)
{
    PipelineHot *h = migration_pipeline()->hot;

    return qatomic_read(&h->pages);
}

uint64_t migration_hot_saved(void)
{
    PipelineHot *h = migration_pipeline()->hot;

    return qatomic_read(&h->saved);
}
