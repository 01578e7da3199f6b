/* Linked into each program that runs under valgrind, which would otherwise not get as far as a pool:
 *
 * - valgrind 3.19 does not know pidfd_open(2) and pidfd_send_signal(2). They are done by a copy of this program that is
 *   exec'd, which valgrind does not follow: it runs on the processor itself and sends the descriptor back over a socket.
 * - exec of /proc/self/exe starts valgrind's own program, and stat of it finds that. Both are given this program's path.
 *
 * So the host, and all of the C interface in it, runs under memcheck; arbiter and workers run without. The functions
 * here stand before libc's of the same names: the library is linked statically, and calls these. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define VARIABLE "STOKEHOLD_MEMCHECK_SERVES"

long syscall(long number, ...);
int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
                 char *const argv[], char *const envp[]);
int statx(int dir, const char *path, int flags, unsigned mask, struct statx *out);

#ifndef __x86_64__
#error "system calls are made as on x86-64"
#endif

static long raw(long number, long a, long b, long c, long d, long e, long f)
{
    long answer;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(answer)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return answer;
}

/* What the kernel says, as libc hands it on. */
static long handed_on(long answer)
{
    if (answer >= -4095 && answer < 0) return errno = (int)-answer, -1;
    return answer;
}

/* This program's file. Valgrind answers readlink of /proc/self/exe as the processor itself would. */
static const char *program(void)
{
    static char path[4096];
    if (!*path) {
        const ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
        if (n < 0) abort();
    }
    return path;
}

typedef struct {
    long number, a, b, d; /* one system call; of its third argument nothing is known but that it is NULL */
} request;

static bool under_valgrind; /* not so in what was exec'd from there */

/* Before `main`; in the copy it does what it is asked, and `main` never is. */
__attribute__((constructor)) static void serve(void)
{
    request asked;
    const char *preloaded = getenv("LD_PRELOAD"); /* set by valgrind, and taken away again where it does not follow */
    under_valgrind = preloaded && strstr(preloaded, "vgpreload");
    const char *serves = getenv(VARIABLE);
    if (!serves) return;
    const int socket = atoi(serves);
    if (recv(socket, &asked, sizeof asked, MSG_WAITALL) != sizeof asked) _exit(1);
    int fd = -1;
    char room[CMSG_SPACE(sizeof fd)];
    if (asked.number == SYS_pidfd_send_signal) { /* the descriptor comes with a second message */
        long unused;
        struct iovec in = {&unused, sizeof unused};
        struct msghdr message = {.msg_iov = &in, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
        if (recvmsg(socket, &message, 0) < 0 || !CMSG_FIRSTHDR(&message)) _exit(1);
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
        asked.a = fd;
    }
    long answer = raw(asked.number, asked.a, asked.b, 0, asked.d, 0, 0);
    struct iovec out = {&answer, sizeof answer};
    struct msghdr message = {.msg_iov = &out, .msg_iovlen = 1};
    if (asked.number == SYS_pidfd_open && answer >= 0) {
        fd = (int)answer;
        memset(room, 0, sizeof room);
        message.msg_control = room, message.msg_controllen = sizeof room;
        struct cmsghdr *control = CMSG_FIRSTHDR(&message);
        control->cmsg_level = SOL_SOCKET, control->cmsg_type = SCM_RIGHTS, control->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(control), &fd, sizeof fd);
    }
    _exit(sendmsg(socket, &message, 0) < 0);
}

/* In the host: has it done. */
static long ask(request asked, int fd)
{
    int ends[2], status;
    long answer = -EIO;
    char number[64], room[CMSG_SPACE(sizeof fd)];
    char *environment[] = {number, NULL};
    char *arguments[] = {(char *)(size_t)program(), NULL};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) return -errno;
    const pid_t copy = fork();
    if (copy == 0) {
        const int socket = dup(ends[1]); /* without close-on-exec */
        snprintf(number, sizeof number, VARIABLE "=%d", socket);
        execve(program(), arguments, environment);
        _exit(1);
    }
    close(ends[1]);
    memset(room, 0, sizeof room);
    struct iovec data = {&asked, sizeof asked};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
    int good = copy > 0 && sendmsg(ends[0], &message, MSG_NOSIGNAL) == (ssize_t)sizeof asked;
    if (good && asked.number == SYS_pidfd_send_signal) {
        data.iov_base = &answer, data.iov_len = sizeof answer;
        message.msg_control = room, message.msg_controllen = sizeof room;
        struct cmsghdr *control = CMSG_FIRSTHDR(&message);
        control->cmsg_level = SOL_SOCKET, control->cmsg_type = SCM_RIGHTS, control->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(control), &fd, sizeof fd);
        good = sendmsg(ends[0], &message, MSG_NOSIGNAL) == (ssize_t)sizeof answer;
    }
    data.iov_base = &answer, data.iov_len = sizeof answer;
    message.msg_control = room, message.msg_controllen = sizeof room;
    if (!good || recvmsg(ends[0], &message, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof answer) answer = -EIO;
    else if (asked.number == SYS_pidfd_open && answer >= 0) {
        if (CMSG_FIRSTHDR(&message)) memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd), answer = fd;
        else answer = -EIO;
    }
    close(ends[0]);
    if (copy > 0) waitpid(copy, &status, 0);
    return answer;
}

long syscall(long number, ...)
{
    va_list list;
    long n[6];
    va_start(list, number);
    for (int i = 0; i < 6; i++) n[i] = va_arg(list, long); /* as many as there are registers for */
    va_end(list);
    if (under_valgrind && number == SYS_pidfd_open) return handed_on(ask((request){number, (int)n[0], (int)n[1], 0}, -1));
    if (under_valgrind && number == SYS_pidfd_send_signal)
        return handed_on(ask((request){number, 0, (int)n[1], (int)n[3]}, (int)n[0]));
    return handed_on(raw(number, n[0], n[1], n[2], n[3], n[4], n[5]));
}

static const char *found(const char *path)
{
    return path && strcmp(path, "/proc/self/exe") == 0 ? program() : path;
}

int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
                 char *const argv[], char *const envp[])
{
    return posix_spawn(pid, found(file), actions, attributes, argv, envp); /* the library names paths only */
}

int statx(int dir, const char *path, int flags, unsigned mask, struct statx *out)
{
    return (int)handed_on(raw(SYS_statx, dir, (long)(size_t)found(path), flags, mask, (long)(size_t)out, 0));
}
