/*
 * An image that several processes, and several nodes of one, have open at once
 *
 * A program that uses this also runs itself, as "PROGRAM --peer COMMAND ...".
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_CSV_SHARED_IMAGE_H
#define TESTS_UNIT_CSV_SHARED_IMAGE_H

#include "block/block_int-common.h"
#include "qemu/units.h"
#include "system/block-backend.h"

#define IMAGE_SIZE      (4 * MiB)
#define PLAIN "{'driver': 'file', 'filename': '%s'}"

extern char *image;             /* its name */

/* The image has IMAGE_SIZE bytes of zeroes */
void fresh_image(void);
bool have_o_direct(void);

/* Returns the image opened as the printf-like JSON says, "%s" is its name */
BlockBackend *open_flags(const char *json, int flags);
/* The same, for reading and writing */
BlockBackend *open_image(const char *json);
BdrvChild *child_of(BlockBackend *blk);

/* bdrv_compare_and_write() of blocks that are full of one byte */
int compare_and_write(BlockBackend *blk, int64_t offset, int64_t bytes,
                      char compare, char write, BdrvRequestFlags flags);

/* Start "--peer @command @json @arg", with pipes as its descriptors 3 and 4 */
pid_t peer_start(const char *command, const char *json, unsigned arg,
                 int ready_fd, int go_fd);
/* Its exit status, or the number of the signal that ended it, negative */
int peer_wait(pid_t pid);
/* In a peer: tell the parent that we are set up, and wait until it says go */
void peer_barrier(void);

/* What a peer does; returns its exit status */
typedef int PeerFn(const char *command, BlockBackend *blk, unsigned arg);

/* The program's main(): be a peer, or run the tests that @add_tests adds */
int shared_image_main(int argc, char **argv, PeerFn *peer,
                      void (*add_tests)(void));

#endif
