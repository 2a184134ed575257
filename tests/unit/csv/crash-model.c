/*
 * What a disk may hold after a crash
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "crash-model.h"
#include "sim-device.h"

#define MODEL_TAG 0x6d69737672617363ULL

typedef struct ModelValue {
    unsigned op;
    uint32_t value;
} ModelValue;

struct Model {
    unsigned step;          /* counts notes */
    GHashTable *sectors;    /* number to GArray of ModelValue */
    GHashTable *done;       /* op to step at which it was done */
    GHashTable *flush;      /* flush to step at which it began */
};

static void model_array_free(gpointer p)
{
    g_array_free(p, true);
}

Model *model_new(void)
{
    Model *m = g_new0(Model, 1);

    m->sectors = g_hash_table_new_full(NULL, NULL, NULL, model_array_free);
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

/* Of each sector, all values before the last one done before @step are gone */
static void model_settle(Model *m, GArray *a, unsigned step)
{
    for (guint i = a->len - 1; i > 0; i--) {
        unsigned op = g_array_index(a, ModelValue, i).op;
        unsigned done = GPOINTER_TO_UINT(
            g_hash_table_lookup(m->done, GUINT_TO_POINTER(op)));

        if (done && done < step) {
            g_array_remove_range(a, 0, i);
            return;
        }
    }
}

void model_note(Model *m, const ModelNote *note)
{
    gpointer key = GUINT_TO_POINTER(note->op);
    unsigned step = ++m->step;

    switch (note->kind) {
    case MODEL_BEGIN:
        for (uint64_t i = 0; i < note->sectors; i++) {
            ModelValue v = { note->op, note->value };

            g_array_append_val(model_sector(m, note->sector + i), v);
        }
        break;
    case MODEL_DONE:
        g_hash_table_insert(m->done, key, GUINT_TO_POINTER(step));
        for (uint64_t i = 0; note->fua && i < note->sectors; i++) {
            model_settle(m, model_sector(m, note->sector + i), step + 1);
        }
        break;
    case MODEL_FLUSH:
        g_hash_table_insert(m->flush, key, GUINT_TO_POINTER(step));
        break;
    case MODEL_FLUSH_DONE: {
        GHashTableIter it;
        gpointer a;

        step = GPOINTER_TO_UINT(g_hash_table_lookup(m->flush, key));
        g_hash_table_iter_init(&it, m->sectors);
        while (g_hash_table_iter_next(&it, NULL, &a)) {
            model_settle(m, a, step);
        }
        break;
    }
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

    g_string_printf(s, "sector %" PRIu64 " holds ", sector);
    if (buffer_is_zero(buf, SIM_SECTOR)) {
        g_string_append(s, "zeroes");
    } else if (p[0] == MODEL_TAG) {
        g_string_append_printf(s, "value %" PRIu64 " of sector %" PRIu64,
                               p[2], p[1]);
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
            g_array_set_size(a, 0);
            g_array_append_val(a, v);
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
