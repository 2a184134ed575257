/*
 * What disks may hold after a crash
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "crash-model.h"
#include "sim-device.h"

#define MODEL_TAG 0x6d69737672617363ULL

typedef struct ModelValue {
    unsigned op;            /* 0: was there before */
    unsigned begun;         /* step */
    uint32_t value;
} ModelValue;

struct Model {
    unsigned step;          /* counts notes */
    GHashTable *sectors;    /* key to GArray of ModelValue */
    GHashTable *ended;      /* op to step at which it was over */
    GHashTable *done;       /* the same if it was good */
    GHashTable *flush;      /* flush to step at which it began */
};

/* The size of a disk stands where its last sector would. */
#define MODEL_SIZE_KEY(disk) MODEL_KEY(disk, MODEL_SECTOR(UINT64_MAX))

static void model_array_free(gpointer p)
{
    g_array_free(p, true);
}

Model *model_new(void)
{
    Model *m = g_new0(Model, 1);

    m->sectors = g_hash_table_new_full(NULL, NULL, NULL, model_array_free);
    m->ended = g_hash_table_new(NULL, NULL);
    m->done = g_hash_table_new(NULL, NULL);
    m->flush = g_hash_table_new(NULL, NULL);
    return m;
}

static void model_copy_pairs(GHashTable *to, GHashTable *from)
{
    GHashTableIter it;
    gpointer key, value;

    g_hash_table_iter_init(&it, from);
    while (g_hash_table_iter_next(&it, &key, &value)) {
        g_hash_table_insert(to, key, value);
    }
}

Model *model_copy(const Model *model)
{
    Model *m = model_new();
    GHashTableIter it;
    gpointer key, value;

    m->step = model->step;
    model_copy_pairs(m->ended, model->ended);
    model_copy_pairs(m->done, model->done);
    model_copy_pairs(m->flush, model->flush);
    g_hash_table_iter_init(&it, model->sectors);
    while (g_hash_table_iter_next(&it, &key, &value)) {
        g_hash_table_insert(m->sectors, key, g_array_copy(value));
    }
    return m;
}

void model_free(Model *m)
{
    g_hash_table_destroy(m->sectors);
    g_hash_table_destroy(m->ended);
    g_hash_table_destroy(m->done);
    g_hash_table_destroy(m->flush);
    g_free(m);
}

static GArray *model_sector(Model *m, uint64_t sector)
{
    GArray *a = g_hash_table_lookup(m->sectors, (gpointer)(uintptr_t)sector);

    if (!a) {
        ModelValue zero = { 0 };

        a = g_array_sized_new(false, false, sizeof(ModelValue), 4);
        g_array_append_val(a, zero);
        g_hash_table_insert(m->sectors, (gpointer)(uintptr_t)sector, a);
    }
    return a;
}

static unsigned model_step(GHashTable *table, unsigned op)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(table, GUINT_TO_POINTER(op)));
}

/* Was @old over when @new began? */
static bool model_is_older(Model *m, const ModelValue *old,
                           const ModelValue *new)
{
    unsigned ended = model_step(m->ended, old->op);

    return !old->op || (ended && ended < new->begun);
}

/* What was done before @step is durable; what was there before that is gone. */
static void model_settle(Model *m, GArray *a, unsigned step)
{
    for (guint i = 0; i < a->len; i++) {
        ModelValue new = g_array_index(a, ModelValue, i);
        unsigned done = new.op ? model_step(m->done, new.op) : 0;

        if (!done || done >= step) {
            continue;
        }
        for (guint k = a->len; k-- > 0; ) {
            if (model_is_older(m, &g_array_index(a, ModelValue, k), &new)) {
                g_array_remove_index(a, k);
                i -= k < i;
            }
        }
    }
}

static void model_append(Model *m, const ModelNote *note, uint64_t key,
                         uint32_t value)
{
    ModelValue v = { note->op, m->step, value };

    /* What was never written is zeroes anyway. */
    if (value || g_hash_table_contains(m->sectors, (gpointer)(uintptr_t)key)) {
        g_array_append_val(model_sector(m, key), v);
    }
}

static void model_settle_range(Model *m, uint64_t key, uint64_t sectors,
                               unsigned step)
{
    for (uint64_t i = 0; i < sectors; i++) {
        gpointer at = (gpointer)(uintptr_t)(key + i);
        GArray *a = g_hash_table_lookup(m->sectors, at);

        if (a) {
            model_settle(m, a, step);
        }
    }
}

static void model_settle_disk(Model *m, uint64_t disk, uint64_t from,
                              unsigned step)
{
    GHashTableIter it;
    gpointer key, a;

    g_hash_table_iter_init(&it, m->sectors);
    while (g_hash_table_iter_next(&it, &key, &a)) {
        if (MODEL_DISK((uintptr_t)key) == disk &&
            MODEL_SECTOR((uintptr_t)key) >= from) {
            model_settle(m, a, step);
        }
    }
}

/* A disk is about to have another size. */
static void model_resize(Model *m, const ModelNote *note)
{
    uint64_t disk = MODEL_DISK(note->sector);
    GHashTableIter it;
    gpointer key, a;

    g_hash_table_iter_init(&it, m->sectors);
    while (g_hash_table_iter_next(&it, &key, &a)) {
        ModelValue v = { note->op, m->step, 0 };

        if ((uintptr_t)key == MODEL_SIZE_KEY(disk)) {
            v.value = note->sectors;
        } else if (MODEL_DISK((uintptr_t)key) != disk ||
                   MODEL_SECTOR((uintptr_t)key) < note->sectors) {
            continue;
        }
        g_array_append_val((GArray *)a, v);
    }
}

void model_disk(Model *m, unsigned disk, uint64_t sectors)
{
    GArray *a = model_sector(m, MODEL_SIZE_KEY(disk));

    g_array_index(a, ModelValue, 0).value = sectors;
}

void model_note(Model *m, const ModelNote *note)
{
    gpointer op = GUINT_TO_POINTER(note->op);
    gpointer step = GUINT_TO_POINTER(++m->step);

    switch (note->kind) {
    case MODEL_BEGIN:
        for (uint64_t i = 0; i < note->sectors; i++) {
            model_append(m, note, note->sector + i, note->value);
        }
        break;
    case MODEL_DONE:
        g_hash_table_insert(m->ended, op, step);
        g_hash_table_insert(m->done, op, step);
        if (note->fua) {
            model_settle_range(m, note->sector, note->sectors, m->step + 1);
        }
        break;
    case MODEL_FAILED:
        g_hash_table_insert(m->ended, op, step);
        break;
    case MODEL_FLUSH:
        g_hash_table_insert(m->flush, op, step);
        break;
    case MODEL_FLUSH_DONE:
        model_settle_disk(m, MODEL_DISK(note->sector), 0,
                          model_step(m->flush, note->op));
        break;
    case MODEL_SIZE:
        model_resize(m, note);
        break;
    case MODEL_SIZE_DONE:
        g_hash_table_insert(m->ended, op, step);
        g_hash_table_insert(m->done, op, step);
        model_settle_disk(m, MODEL_DISK(note->sector), note->sectors,
                          m->step + 1);
        break;
    case MODEL_OPENED:
        break;
    }
}

void model_fill(uint8_t *buf, uint64_t sector, uint32_t value)
{
    uint64_t *p = (uint64_t *)buf;

    if (!value) {
        memset(buf, 0, SIM_SECTOR);
        return;
    }
    for (unsigned i = 0; i < SIM_SECTOR / 8; i += 4) {
        p[i] = MODEL_TAG;
        p[i + 1] = sector;
        p[i + 2] = value;
        p[i + 3] = i;
    }
}

static char *model_describe(GArray *a, uint64_t sector, const uint8_t *buf)
{
    g_autoptr(GString) s = g_string_new(NULL);
    const uint64_t *p = (const uint64_t *)buf;

    g_string_printf(s, "sector %" PRIu64 " of disk%u holds ",
                    MODEL_SECTOR(sector), (unsigned)MODEL_DISK(sector));
    if (buffer_is_zero(buf, SIM_SECTOR)) {
        g_string_append(s, "zeroes");
    } else if (p[0] == MODEL_TAG) {
        g_string_append_printf(s, "value %" PRIu64 " of sector %" PRIu64
                               " of disk%u", p[2], MODEL_SECTOR(p[1]),
                               (unsigned)MODEL_DISK(p[1]));
    } else {
        g_string_append_printf(s, "bytes that nobody wrote there (%016"
                               PRIx64 ")", p[0]);
    }
    g_string_append(s, "; allowed:");
    for (guint i = 0; a && i < a->len; i++) {
        g_string_append_printf(s, " %u",
                               g_array_index(a, ModelValue, i).value);
    }
    return g_strdup(s->str);
}

/* It is @value, and whatever was under way is over. */
static void model_pin(GArray *a, uint32_t value)
{
    ModelValue v = { .value = value };

    g_array_set_size(a, 0);
    g_array_append_val(a, v);
}

bool model_check(Model *m, uint64_t sector, const uint8_t *buf, char **why)
{
    GArray *a = g_hash_table_lookup(m->sectors, (gpointer)(uintptr_t)sector);
    uint8_t want[SIM_SECTOR];

    if (!a && buffer_is_zero(buf, SIM_SECTOR)) {
        return true;
    }
    for (guint i = 0; a && i < a->len; i++) {
        ModelValue v = g_array_index(a, ModelValue, i);

        model_fill(want, sector, v.value);
        if (!memcmp(want, buf, SIM_SECTOR)) {
            model_pin(a, v.value);
            return true;
        }
    }
    *why = model_describe(a, sector, buf);
    return false;
}

bool model_check_zero(Model *m, uint64_t sector, uint64_t sectors, char **why)
{
    static const uint8_t zero[SIM_SECTOR];
    GHashTableIter it;
    gpointer key;

    if (sectors < g_hash_table_size(m->sectors)) {
        for (uint64_t i = 0; i < sectors; i++) {
            if (!model_check(m, sector + i, zero, why)) {
                return false;
            }
        }
        return true;
    }
    /* What was never written is zero anyway. */
    g_hash_table_iter_init(&it, m->sectors);
    while (g_hash_table_iter_next(&it, &key, NULL)) {
        uint64_t at = (uintptr_t)key;

        if (at >= sector && at - sector < sectors &&
            !model_check(m, at, zero, why)) {
            return false;
        }
    }
    return true;
}

bool model_check_size(Model *m, unsigned disk, uint64_t sectors, char **why)
{
    GArray *size = model_sector(m, MODEL_SIZE_KEY(disk)), *a;
    GHashTableIter it;
    gpointer key;

    for (guint i = 0; i < size->len; i++) {
        if (g_array_index(size, ModelValue, i).value != sectors) {
            continue;
        }
        model_pin(size, sectors);
        g_hash_table_iter_init(&it, m->sectors);
        while (g_hash_table_iter_next(&it, &key, (gpointer *)&a)) {
            if (a != size && MODEL_DISK((uintptr_t)key) == disk &&
                MODEL_SECTOR((uintptr_t)key) >= sectors) {
                model_pin(a, 0);    /* cut off */
            }
        }
        return true;
    }
    *why = g_strdup_printf("disk%u has %" PRIu64 " sectors", disk, sectors);
    return false;
}
