/*
 * What fuzzing has found, once more
 *
 * Runs each input of the corpus that "make check-fuzz" keeps, without a
 * fuzzer: one line of hexadecimal digits each, see fuzz-volume.h.
 *
 *   test-csv-corpus FILE [LINE]      FILE: the corpus; all lines or one
 *   test-csv-corpus -b FILE          FILE: one input, as a fuzzer writes it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "fuzz-volume.h"

#define SECONDS_EACH    60      /* more than this is a hang */

static char *corpus;
static unsigned long only;

static void one_line(const char *line, unsigned number)
{
    g_autofree uint8_t *data = g_malloc(strlen(line) / 2 + 1);
    size_t size;

    for (size = 0; line[2 * size]; size++) {
        int high = g_ascii_xdigit_value(line[2 * size]);
        int low = g_ascii_xdigit_value(line[2 * size + 1]);

        if (high < 0 || low < 0) {
            g_error("line %u is not made of hexadecimal digits", number);
        }
        data[size] = high << 4 | low;
    }
    g_test_message("line %u", number);
    alarm(SECONDS_EACH);
    fuzz_one(data, size);
    alarm(0);
}

static void test_corpus(void)
{
    g_auto(GStrv) lines = g_strsplit(corpus, "\n", -1);
    unsigned i, ran = 0;

    for (i = 0; lines[i]; i++) {
        if (lines[i][0] && lines[i][0] != '#' && (!only || only == i + 1)) {
            one_line(lines[i], i + 1);
            ran++;
        }
    }
    g_assert_cmpint(ran, >, 0);
}

int main(int argc, char **argv)
{
    bool binary = argc > 2 && !strcmp(argv[1], "-b");
    size_t bytes;
    int ret = 0;

    g_test_init(&argc, &argv, NULL);
    if (argc < 2 || !g_file_get_contents(argv[binary ? 2 : 1], &corpus, &bytes,
                                         NULL) ||
        (!binary && argc > 2 && qemu_strtoul(argv[2], NULL, 10, &only) < 0)) {
        fprintf(stderr, "usage: test-csv-corpus FILE [LINE]\n"
                "       test-csv-corpus -b FILE\n");
        return 1;
    }
    fuzz_init();
    if (binary) {
        fuzz_one((const uint8_t *)corpus, bytes);
    } else {
        g_test_add_func("/csv/corpus", test_corpus);
        ret = g_test_run();
    }
    fuzz_end();
    g_free(corpus);
    return ret;
}
