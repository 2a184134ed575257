/*
 * A "host" of the cluster tests: namespaces and their first process
 *
 *   hostinit host NAME          a new host; says "PID\n" when it stands
 *   hostinit enter PID FD CMD.. run CMD in the host whose first process is PID,
 *                               say CMD's pid on FD (- for no one), end as
 *                               CMD ends
 *   hostinit guard FD CMD..     run CMD without any host, otherwise the same
 *
 * Each ends when its standard input reaches end of file, and takes everything
 * in it along. The test program holds the other end of that pipe, so nothing
 * outlives it, whatever way it ends.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what)
{
    fprintf(stderr, "hostinit: %s: %s\n", what, strerror(errno));
    exit(125);
}

static int input_ended(int timeout_ms)
{
    struct pollfd p = { .fd = 0, .events = POLLIN };
    char c;

    return poll(&p, 1, timeout_ms) == 1 && read(0, &c, 1) == 0;
}

static void nothing(int sig)
{
    (void)sig;
}

/* Wake up from poll() when a child ends. */
static void catch_children(void)
{
    struct sigaction a = { .sa_handler = nothing };

    sigaction(SIGCHLD, &a, NULL);
}

/* In this host only, the file at PATH contains TEXT. */
static void replace_file(const char *path, const char *text)
{
    char temp[] = "/tmp/csv-host-XXXXXX";
    int fd = mkstemp(temp);

    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) ||
        fchmod(fd, 0444) < 0 || mount(temp, path, NULL, MS_BIND, NULL) < 0) {
        die(path);
    }
    unlink(temp);
    close(fd);
}

/* Let programs in here see a machine, and a boot of it, of its own. */
static void become_a_machine(void)
{
    char text[64];
    int fd = open("/proc/sys/kernel/random/uuid", O_RDONLY);
    ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    char *to = text;

    if (len <= 0) {
        die("random UUID");
    }
    close(fd);
    text[len] = 0;
    replace_file("/proc/sys/kernel/random/boot_id", text);
    if (access("/etc/machine-id", F_OK) < 0) {
        return;
    }
    for (const char *from = text; *from; from++) {
        if (*from != '-') {
            *to++ = *from;
        }
    }
    *to = 0;
    replace_file("/etc/machine-id", text);
}

static int first_process(const char *name)
{
    /* ours alone: what is mounted here is seen nowhere else */
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        die("private mounts");
    }
    if (mount("proc", "/proc", "proc", 0, NULL) < 0) {
        die("/proc");
    }
    mount("sysfs", "/sys", "sysfs", 0, NULL);   /* not in a user namespace */
    become_a_machine();
    if (sethostname(name, strlen(name)) < 0) {
        die("host name");
    }
    if (write(3, "up", 2) != 2) {
        die("pipe");
    }
    close(3);
    catch_children();
    /* The kernel kills all that is left in here when this process ends. */
    while (!input_ended(1000)) {
        while (waitpid(-1, NULL, WNOHANG) > 0) {
        }
    }
    return 0;
}

static int host(const char *name)
{
    int ready[2], status;
    char up[2];
    pid_t pid;

    if (unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC |
                CLONE_NEWPID) < 0) {
        die("namespaces");
    }
    if (pipe(ready) < 0) {
        die("pipe");
    }
    pid = fork();
    if (pid < 0) {
        die("fork");
    }
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(ready[0]);
        if (ready[1] != 3) {
            dup2(ready[1], 3);
            close(ready[1]);
        }
        _exit(first_process(name));
    }
    close(ready[1]);
    if (read(ready[0], up, 2) != 2) {
        exit(125);
    }
    printf("%d\n", pid);
    fflush(stdout);
    waitpid(pid, &status, 0);
    return 0;
}

static void enter(const char *pid)
{
    static const struct {
        const char *name;
        int type;
    } kinds[] = {
        { "net", CLONE_NEWNET }, { "uts", CLONE_NEWUTS },
        { "ipc", CLONE_NEWIPC }, { "pid", CLONE_NEWPID },
        { "mnt", CLONE_NEWNS },
    };
    char path[64], cwd[4096];
    int fds[5];

    if (!getcwd(cwd, sizeof(cwd))) {
        die("working directory");
    }
    for (int i = 0; i < 5; i++) {
        snprintf(path, sizeof(path), "/proc/%s/ns/%s", pid, kinds[i].name);
        fds[i] = open(path, O_RDONLY | O_CLOEXEC);
        if (fds[i] < 0) {
            die(path);
        }
    }
    for (int i = 0; i < 5; i++) {
        if (setns(fds[i], kinds[i].type) < 0) {
            die(kinds[i].name);
        }
    }
    if (chdir(cwd) < 0) {
        die(cwd);
    }
}

static int run(const char *fd_text, char **cmd)
{
    int fd = strcmp(fd_text, "-") ? atoi(fd_text) : -1;
    int status;
    pid_t pid;

    catch_children();
    pid = fork();
    if (pid < 0) {
        die("fork");
    }
    if (pid == 0) {
        int null = open("/dev/null", O_RDONLY);

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(null, 0);
        if (fd >= 0) {
            close(fd);
        }
        execvp(cmd[0], cmd);
        die(cmd[0]);
    }
    if (fd >= 0) {
        dprintf(fd, "%d\n", pid);
        close(fd);
    }
    for (;;) {
        pid_t got = waitpid(pid, &status, WNOHANG);

        if (got == pid) {
            break;
        }
        if (input_ended(got < 0 ? 0 : 200)) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            break;
        }
    }
    if (WIFSIGNALED(status)) {
        signal(WTERMSIG(status), SIG_DFL);
        return 128 + WTERMSIG(status);
    }
    return WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "host")) {
        return host(argv[2]);
    }
    if (argc > 4 && !strcmp(argv[1], "enter")) {
        enter(argv[2]);
        return run(argv[3], argv + 4);
    }
    if (argc > 3 && !strcmp(argv[1], "guard")) {
        return run(argv[2], argv + 3);
    }
    fprintf(stderr, "usage: hostinit host NAME | enter PID FD COMMAND... | "
            "guard FD COMMAND...\n");
    return 2;
}
