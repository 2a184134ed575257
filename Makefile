# SPDX-License-Identifier: GPL-2.0-or-later
#
# Each target does all its set-up and starts from what is already there.

ifndef CSV_T0
CSV_T0 := $(shell date +%s)
endif
export CSV_T0

# options for ./configure, when there has been none yet
CONFIGURE_OPTS ?=
JOBS ?=

# build QEMU as released, too, for the demo to compare with
COMPARE ?=

# what the demo needs of QEMU, and what other tests need
DEMO_TARGETS = qemu-system-x86_64 qemu-img
TOOLS = $(DEMO_TARGETS) qemu-io qemu-nbd storage-daemon/qemu-storage-daemon

BENCH_TARGETS = qemu-img storage-daemon/qemu-storage-daemon tests/unit/csv/bench-csv-block

all: configured
	@scripts/build

help:
	@echo 'make                 build all of QEMU into build/qemu'
	@echo 'make demo            build what the demo needs, and show what a guest survives;'
	@echo '                     COMPARE=1 to build QEMU as released and compare with it'
	@echo 'make check           build, and run all tests; SUITE=NAME for one suite'
	@echo "make check-upstream  QEMU's own block and migration tests, with and"
	@echo '                     without the series: shows differences only'
	@echo 'make bench-csv       compare the speed of raw, qcow2 and csv'
	@echo 'make bench-migration  compare live migration of QEMU as released and of'
	@echo '                     the pipeline'
	@echo 'make bench-hotplug   compare the hot-plug of disks with the plain commands'
	@echo '                     of QEMU as released'
	@echo 'make check-crash     power losses on a simulated device; SEEDS=n for more'
	@echo 'make check-stress    kill owners of disks for real, for many rounds'
	@echo 'make check-migration-cuts  cut migrations at every boundary'
	@echo 'make check-fuzz      fuzz what is read from a volume; FUZZ_SECONDS=n, default 60'
	@echo 'make check-sanitize  our tests, built with clang, ASan, UBSan and thread-safety'
	@echo '                     analysis'
	@echo 'make dist            the series as one tarball of quilt patches'
	@echo 'make clean           remove what was built; keeps build/src'
	@echo 'make distclean       remove build/, unless build/src holds own work'

configured:
	@./configure --recheck $(CONFIGURE_OPTS)

tools: configured
	@scripts/build $(TOOLS)

# the guest is unpacked on one CPU while QEMU is configured on another
demo:
	@scripts/install-packages
	@$(MAKE) --no-print-directory -j2 configured guest
	@scripts/build $(DEMO_TARGETS)
	@$(if $(COMPARE),scripts/build-pristine qemu-system-x86_64)
	@tests/cluster/demo --build build/qemu

guest:
	@tests/cluster/demo --prepare

check: configured
	@scripts/build
	@scripts/check $(if $(SUITE),--suite $(SUITE)) $(if $(JOBS),--jobs $(JOBS))

check-upstream: configured
	@scripts/check-upstream

bench-csv: configured
	@scripts/build $(BENCH_TARGETS)
	@tests/bench/csv-bench

bench-migration: configured
	@scripts/build qemu-system-x86_64
	@scripts/build-pristine qemu-system-x86_64
	@tests/bench/migration-bench

bench-hotplug: tools
	@scripts/build-pristine qemu-system-x86_64
	@tests/bench/hotplug-bench

check-crash: configured
	@scripts/build tests/unit/csv/test-csv-crash tests/unit/csv/test-csv-breaks
	@$(if $(SEEDS),CSV_CRASH_SEEDS=$(SEEDS)) build/qemu/tests/unit/csv/test-csv-crash -k --tap
	@build/qemu/tests/unit/csv/test-csv-breaks -k --tap

check-stress: tools
	@scripts/check --suite stress --full

check-migration-cuts: tools
	@tests/cluster/cuts
	@tests/cluster/cuts-quick

check-fuzz: configured
	@scripts/check-fuzz $(if $(FUZZ_SECONDS),--seconds $(FUZZ_SECONDS))

check-sanitize: configured
	@scripts/check-sanitize $(if $(JOBS),--jobs $(JOBS))

dist: configured
	@scripts/make-dist

clean:
	rm -rf build/qemu build/qemu.stamp build/pristine build/check build/check-upstream \
	    build/sanitize build/sanitize.* build/fuzz build/asan build/asan.* \
	    build/demo build/stress build/bench build/dist build/export build/cuts build/compat

distclean:
	@scripts/distclean

.PHONY: all help configured tools demo guest check check-upstream bench-csv bench-migration bench-hotplug \
	check-crash check-stress check-migration-cuts check-fuzz check-sanitize \
	dist clean distclean
