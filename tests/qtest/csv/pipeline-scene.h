/*
 * A guest that moves between two QEMU processes
 *
 * It writes a byte to each page of 99 MiB, over and over, which is the hardest
 * there is, and says on its serial line that it runs.  Everything is asserted:
 * what these functions do not return has happened, or the test has failed.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_PIPELINE_SCENE_H
#define TESTS_QTEST_PIPELINE_SCENE_H

#include "libqtest.h"
#include "qemu/units.h"
#include "qobject/qdict.h"

#define PIPELINE_GUEST_MB       128
#define PIPELINE_TIMEOUT_US     (120 * G_TIME_SPAN_SECOND)
/* So that no blackout is too long for the promise, however slow the host */
#define PIPELINE_PATIENT_MS     60000

/* All zeroes, or with a folder of its own that has been made before */
typedef struct PipelineScene {
    char *dir, *boot, *socket;
    bool deferred;              /* destinations wait to be told what for */
    QTestState *src, *dst;
} PipelineScene;

/* Both sides with these options; the guest runs on the source. */
void pipeline_begin(PipelineScene *s, const char *src, const char *dst);
void pipeline_end(PipelineScene *s);

/* One more process, whose guest's serial line is in that file */
QTestState *pipeline_start_side(PipelineScene *s, const char *serial,
                                const char *extra);

/* One more destination, after the last one has ended */
void pipeline_start_destination(PipelineScene *s, const char *extra);

/* The destination's migration has failed, and it ends by itself. */
void pipeline_end_destination(PipelineScene *s);

/*
 * The answer to migrate-pipeline-start.  @options: more arguments, each with a
 * comma before it.
 */
QDict *pipeline_start(PipelineScene *s, const char *options);

/* These free @rsp. */
void expect_success(QDict *rsp);
void expect_error(QDict *rsp, const char *want);

void pipeline_set_capability(QTestState *qts, const char *name);

/* The guest says something more on this side, "src" or "dst". */
void pipeline_wait_for_guest(PipelineScene *s, const char *serial);

bool pipeline_has_run_state(QTestState *qts, const char *want);
void pipeline_wait_run_state(QTestState *qts, const char *want);

/* What query-migrate-pipeline says */
QDict *pipeline_query(QTestState *qts);

/* The next event that tells a stage; to be freed */
char *pipeline_next_stage(QTestState *qts);
void pipeline_assert_stage(QTestState *qts, const char *want);

/* Wait for the report; it is what pipeline_query() says afterwards. */
QDict *pipeline_wait_report(QTestState *qts);

/* Was there this decision? */
bool pipeline_has_decision(QDict *report, const char *action,
                           const char *reason);

/* Time of a part of the blackout, or -1 */
int64_t pipeline_part_time(QDict *report, const char *part);

/* These parts, and no others, make up the blackout; ends with NULL. */
void pipeline_assert_blackout(QDict *report, const char *const *parts);
extern const char *const pipeline_source_parts[];
extern const char *const pipeline_destination_parts[];

/* Parameters are the defaults, and @capability is the only one, or NULL. */
void pipeline_assert_settings(QTestState *qts, const char *capability);

/* All of the guest's memory, to be freed; it does not run. */
char *pipeline_memory(PipelineScene *s, QTestState *qts);

/* The guest is on the destination, as both sides say. */
void pipeline_assert_moved(PipelineScene *s);

#endif /* TESTS_QTEST_PIPELINE_SCENE_H */
