/* A disk that fails on command, for one process: preloaded into it, this library stands between it
 * and the C library for the files below one directory.
 *
 *   OTTLA_DISK_FAULTS_BELOW    the directory
 *   OTTLA_DISK_FAULTS_COMMAND  a file with what goes wrong now, empty or missing for nothing:
 *     full       no new files; the first write stores half, every other none: ENOSPC
 *     readonly   nothing can be changed: EROFS
 *     sync-once  one sync fails with EIO, then all succeed again
 *     write-once one write fails with EIO, then all succeed again
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum fault { NONE, FULL, READONLY, SYNC_ONCE, WRITE_ONCE };

static atomic_int failed_once, wrote_half;

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static enum fault fault_now(void) {
    const char *file = getenv("OTTLA_DISK_FAULTS_COMMAND");
    char text[32] = "";
    if (file == NULL) return NONE;
    int fd = NEXT(open)(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return NONE;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0) return NONE;
    text[length] = 0;
    if (strcmp(text, "full") == 0) return FULL;
    if (strcmp(text, "readonly") == 0) return READONLY;
    if (strcmp(text, "sync-once") == 0) return SYNC_ONCE;
    if (strcmp(text, "write-once") == 0) return WRITE_ONCE;
    return NONE;
}

static int is_below(const char *path) {
    const char *below = getenv("OTTLA_DISK_FAULTS_BELOW");
    return below != NULL && path != NULL && strncmp(path, below, strlen(below)) == 0;
}

static int is_open_below(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return is_below(path);
}

static int fails(int error) {
    errno = error;
    return -1;
}

/* How many of `count` bytes are written; -1: none, with errno. */
static ssize_t room(int fd, size_t count) {
    if (!is_open_below(fd)) return count;
    switch (fault_now()) {
    case FULL:
        if (count > 1 && atomic_exchange(&wrote_half, 1) == 0) return count / 2;
        return fails(ENOSPC);
    case READONLY:
        return fails(EROFS);
    case WRITE_ONCE:
        return atomic_exchange(&failed_once, 1) == 0 ? fails(EIO) : (ssize_t)count;
    default:
        return count;
    }
}

static int sync_fails(int fd) {
    return is_open_below(fd) && fault_now() == SYNC_ONCE && atomic_exchange(&failed_once, 1) == 0;
}

static int change_fails(const char *path) {
    return is_below(path) && fault_now() == READONLY;
}

#define WRITER(name, offset_type)                                              \
    ssize_t name(int fd, const void *bytes, size_t count, offset_type at) {    \
        ssize_t some = room(fd, count);                                        \
        return some < 0 ? some : NEXT(name)(fd, bytes, some, at);              \
    }

WRITER(pwrite, off_t)
WRITER(pwrite64, off64_t)

ssize_t write(int fd, const void *bytes, size_t count) {
    ssize_t some = room(fd, count);
    return some < 0 ? some : NEXT(write)(fd, bytes, some);
}

int fdatasync(int fd) {
    return sync_fails(fd) ? fails(EIO) : NEXT(fdatasync)(fd);
}

int fsync(int fd) {
    return sync_fails(fd) ? fails(EIO) : NEXT(fsync)(fd);
}

#define OPENER(name)                                                           \
    int name(const char *path, int flags, ...) {                               \
        mode_t mode = 0;                                                       \
        if (flags & (O_CREAT | O_TMPFILE)) {                                   \
            va_list rest;                                                      \
            va_start(rest, flags);                                             \
            mode = va_arg(rest, mode_t);                                       \
            va_end(rest);                                                      \
        }                                                                      \
        if (is_below(path) && (flags & (O_WRONLY | O_RDWR | O_CREAT))) {       \
            enum fault fault = fault_now();                                    \
            if (fault == READONLY) return fails(EROFS);                        \
            if (fault == FULL && (flags & O_CREAT) && access(path, F_OK) != 0) \
                return fails(ENOSPC);                                          \
        }                                                                      \
        return NEXT(name)(path, flags, mode);                                  \
    }

OPENER(open)
OPENER(open64)

int rename(const char *from, const char *to) {
    return change_fails(to) ? fails(EROFS) : NEXT(rename)(from, to);
}

int unlink(const char *path) {
    return change_fails(path) ? fails(EROFS) : NEXT(unlink)(path);
}

int mkdir(const char *path, mode_t mode) {
    return change_fails(path) ? fails(EROFS) : NEXT(mkdir)(path, mode);
}
