/*
 * Migration pipeline: the blackout besides memory
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <math.h>
#include "costs.h"

/* Without a history, on an idle host, in microseconds: see docs/devel */
static const unsigned guess[PIPELINE_COSTS] = {
    [PIPELINE_COST_STOP] = 500,
    [PIPELINE_COST_RELEASE] = 500,
    [PIPELINE_COST_DEVICE_STATE] = 2000,
    [PIPELINE_COST_LOAD] = 12000,
    [PIPELINE_COST_CLAIM] = 500,
    [PIPELINE_COST_START] = 500,
};
/* and if disks are handed over in a volume */
static const unsigned guess_disks[PIPELINE_COSTS] = {
    [PIPELINE_COST_RELEASE] = 2000,
    [PIPELINE_COST_CLAIM] = 6000,
};

/* Seconds after which the weight of a blackout is halved */
#define HALF_LIFE       600
/*
 * Spread of a guess, and minimum and maximum of a spread, relative to the total
 */
#define SPREAD_GUESS    0.5
#define SPREAD_LEAST    0.1
#define SPREAD_MOST     0.5
/* Number of rows below which their own spread is not reliable */
#define ROWS_FEW        3
/* Weight of a blackout relative to the next one */
#define NEWER           0.7
/* Maximum scale of a guess, in permille */
#define STALL_MOST      4000

void pipeline_history_add(PipelineHistory *h, const PipelineRow *row)
{
    assert(h->rows <= PIPELINE_HISTORY);
    if (h->rows == PIPELINE_HISTORY) {
        memmove(h->row, h->row + 1, (PIPELINE_HISTORY - 1) * sizeof(*h->row));
        h->rows--;
    }
    h->row[h->rows] = *row;
    for (unsigned p = 0; p < PIPELINE_COSTS; p++) {
        uint32_t *time = &h->row[h->rows].time[p];

        *time = MIN(*time, PIPELINE_COST_MOST);
    }
    h->rows++;
}

void pipeline_history_age(PipelineHistory *h, unsigned seconds)
{
    for (unsigned i = 0; i < h->rows; i++) {
        uint32_t room = UINT32_MAX - h->row[i].age;

        h->row[i].age += MIN(room, seconds);
    }
}

bool pipeline_history_valid(const PipelineHistory *h)
{
    if (h->rows > PIPELINE_HISTORY) {
        return false;
    }
    for (unsigned i = 0; i < h->rows; i++) {
        for (unsigned p = 0; p < PIPELINE_COSTS; p++) {
            if (h->row[i].time[p] > PIPELINE_COST_MOST) {
                return false;
            }
        }
    }
    return true;
}

typedef struct Weighted {
    double value, weight;
} Weighted;

static int weighted_compare(const void *a, const void *b)
{
    double x = ((const Weighted *)a)->value, y = ((const Weighted *)b)->value;

    return x < y ? -1 : x > y;
}

static double weighted_median(Weighted *w, unsigned n)
{
    double half = 0, sum = 0;

    qsort(w, n, sizeof(*w), weighted_compare);
    for (unsigned i = 0; i < n; i++) {
        half += w[i].weight / 2;
    }
    for (unsigned i = 0; i < n; i++) {
        sum += w[i].weight;
        if (sum >= half) {
            /* The middle is between two values: take their mean. */
            return sum > half || i + 1 == n ? w[i].value :
                   (w[i].value + w[i + 1].value) / 2;
        }
    }
    g_assert_not_reached();
}

static double row_weight(const PipelineHistory *h, unsigned i)
{
    /* Only its age relative to the latest one matters. */
    unsigned age = h->row[i].age - MIN(h->row[i].age, h->row[h->rows - 1].age);

    return exp2(-(double)MIN(age, 60 * HALF_LIFE) / HALF_LIFE) *
           pow(NEWER, h->rows - 1 - i);
}

static double row_total(const PipelineRow *row)
{
    double total = 0;

    for (unsigned p = 0; p < PIPELINE_COSTS; p++) {
        total += row->time[p];
    }
    return total;
}

/* The median of @value over all rows */
static double history_median(const PipelineHistory *h,
                             double (*value)(const PipelineRow *row,
                                             double arg), double arg)
{
    Weighted w[PIPELINE_HISTORY];

    for (unsigned i = 0; i < h->rows; i++) {
        w[i] = (Weighted) { value(&h->row[i], arg), row_weight(h, i) };
    }
    return weighted_median(w, h->rows);
}

static double value_part(const PipelineRow *row, double part)
{
    return row->time[(unsigned)part];
}

static double value_deviation(const PipelineRow *row, double total)
{
    return fabs(row_total(row) - total);
}

/* The spread, which is larger for few or old blackouts */
static double history_spread(const PipelineHistory *h, double total)
{
    double least = SPREAD_LEAST * total, most = SPREAD_MOST * total;
    double spread = 1.5 * history_median(h, value_deviation, total);

    if (h->rows < ROWS_FEW) {
        least *= ROWS_FEW + 1 - h->rows;
    }
    spread = MAX(spread, least);
    spread *= 1 + (double)h->row[h->rows - 1].age / HALF_LIFE;
    return MIN(spread, most);
}

PipelineCosts pipeline_costs(const PipelineHistory *h, unsigned stall,
                             bool disks)
{
    PipelineCosts c = { .rows = h->rows };

    for (unsigned p = 0; p < PIPELINE_COSTS; p++) {
        c.time[p] = h->rows ? history_median(h, value_part, p) :
                    (guess[p] + (disks ? guess_disks[p] : 0)) *
                    (int64_t)MIN(stall, STALL_MOST) / 1000;
        c.total += c.time[p];
    }
    if (h->rows) {
        c.age = h->row[h->rows - 1].age;
        c.spread = history_spread(h, c.total);
    } else {
        c.spread = SPREAD_GUESS * c.total;
    }
    return c;
}
