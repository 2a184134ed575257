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

static struct {
    GHashTable *sets;       /* RAMBlock to HotSet, or NULL */
    bool on;                /* another sync will come */
    bool forbidden;         /* pages must not be left out */
    int64_t synced;         /* time of the last significant one */
    uint64_t pages;         /* deferred; atomic */
    uint64_t saved;         /* sends of pages avoided; atomic */
} hot;

void migration_hot_reset(void)
{
    g_clear_pointer(&hot.sets, g_hash_table_destroy);
    hot.on = hot.forbidden = false;
    hot.synced = 0;
    qatomic_set(&hot.pages, 0);
    qatomic_set(&hot.saved, 0);
}

static HotSet *hot_set_of(RAMBlock *block)
{
    HotSet *set = g_hash_table_lookup(hot.sets, block);

    if (!set) {
        set = hot_set_new(block->max_length >> qemu_target_page_bits());
        g_hash_table_insert(hot.sets, block, set);
    }
    return set;
}

/* The first sync finds all memory dirty, so only later ones count. */
static bool hot_begin(void)
{
    if (stat64_get(&mig_stats.dirty_sync_count) < 2) {
        return false;
    }
    if (!hot.sets) {
        hot.sets = g_hash_table_new_full(NULL, NULL, NULL,
                                         (GDestroyNotify)hot_set_free);
    }
    return true;
}

static void hot_end(void)
{
    RAMBlock *block;

    RAMBLOCK_FOREACH_NOT_IGNORED(block) {
        hot_set_end(hot_set_of(block), block->bmap);
    }
    qatomic_set(&hot.pages, 0);
}

uint64_t migration_hot_sync(bool last)
{
    int64_t now = qemu_clock_get_us(QEMU_CLOCK_REALTIME);
    HotCount count = { 0 };
    uint64_t pages = 0;
    RAMBlock *block;
    bool likely;

    hot.on = !last && runstate_is_running() &&
             migration_pipeline_drives(migrate_get_current()) && hot_begin();
    /* The guest may have stopped: do not scan empty bitmaps. */
    if (!hot.sets || (!hot.on && !hot.pages)) {
        return 0;
    }
    RAMBLOCK_FOREACH_NOT_IGNORED(block) {
        hot_set_count(hot_set_of(block), block->bmap, &count);
    }
    qatomic_set(&hot.saved, hot.saved + count.both);
    if (!hot.on) {
        hot_end();
        return count.both;
    }
    if (now - hot.synced < SOON) {
        RAMBLOCK_FOREACH_NOT_IGNORED(block) {
            hot_set_sync_again(hot_set_of(block), block->bmap);
        }
        return count.both;
    }
    likely = !hot.forbidden && hot_count_likely(&count);
    RAMBLOCK_FOREACH_NOT_IGNORED(block) {
        pages += hot_set_sync(hot_set_of(block), block->bmap, likely);
    }
    hot.synced = now;
    qatomic_set(&hot.pages, pages);
    trace_migration_hot_sync(count.last, count.last_again, count.twice,
                             count.twice_again, pages);
    return count.both;
}

bool migration_hot_skip(RAMBlock *block, unsigned long page)
{
    ram_addr_t addr = block->offset +
                      ((ram_addr_t)page << qemu_target_page_bits());

    if (!hot.on || !hot.pages || hot.forbidden ||
        !cpu_physical_memory_get_dirty_flag(addr, DIRTY_MEMORY_MIGRATION)) {
        return false;
    }
    qatomic_set(&hot.saved, hot.saved + 1);
    return true;
}

void migration_hot_permit(bool yes)
{
    hot.forbidden = !yes;
}

uint64_t migration_hot_pages(void)
{
    return qatomic_read(&hot.pages);
}

uint64_t migration_hot_saved(void)
{
    return qatomic_read(&hot.saved);
}
