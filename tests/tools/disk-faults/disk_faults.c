/* A disk that fails on command, for one process: preloaded into it, this library stands between it
 * and the C library for the files below one directory.
 *
 *   OTTLA_DISK_FAULTS_BELOW    the directory
 *   OTTLA_DISK_FAULTS_COMMAND  a file with what goes wrong now, empty or missing for nothing:
 *     full       no new files; the first write stores half, every other none: ENOSPC
 *     readonly   nothing can be changed: EROFS
 *     sync-once  one sync fails with EIO, then all succeed again
 *     write-once one write fails with EIO, then all succeed again
 *     no-files   nothing can be opened: EMFILE
 *     freeze     no call returns until something else goes wrong, or nothing
 *   OTTLA_DISK_FAULTS_TRACE    a file that gets a line for each directory that is made ("mkdir") or
 *                              synced ("sync"), wherever it is
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum fault { NONE, FULL, READONLY, SYNC_ONCE, WRITE_ONCE, NO_FILES, FREEZE };

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
    if (strcmp(text, "no-files") == 0) return NO_FILES;
    if (strcmp(text, "freeze") == 0) return FREEZE;
    return NONE;
}

/* The fault now, after a freeze is over. */
static enum fault fault_after_freeze(void) {
    enum fault fault;
    while ((fault = fault_now()) == FREEZE) usleep(20000);
    return fault;
}

static void trace(const char *what, const char *path) {
    const char *file = getenv("OTTLA_DISK_FAULTS_TRACE");
    char line[4200];
    if (file == NULL) return;
    int fd = NEXT(open)(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) return;
    int length = snprintf(line, sizeof line, "%s %s\n", what, path);
    if (NEXT(write)(fd, line, length) != length) abort();
    close(fd);
}

static int is_below(const char *path) {
    const char *below = getenv("OTTLA_DISK_FAULTS_BELOW");
    return below != NULL && path != NULL && strncmp(path, below, strlen(below)) == 0;
}

static int path_of(int fd, char path[4096]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, 4095);
    if (length <= 0) return 0;
    path[length] = 0;
    return 1;
}

static int is_open_below(int fd) {
    char path[4096];
    return path_of(fd, path) && is_below(path);
}

static void trace_sync(int fd) {
    char path[4096];
    struct stat stat;
    if (fstat(fd, &stat) == 0 && S_ISDIR(stat.st_mode) && path_of(fd, path)) trace("sync", path);
}

static int fails(int error) {
    errno = error;
    return -1;
}

/* How many of `count` bytes are written; -1: none, with errno. */
static ssize_t room(int fd, size_t count) {
    if (!is_open_below(fd)) return count;
    switch (fault_after_freeze()) {
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
    return is_open_below(fd) && fault_after_freeze() == SYNC_ONCE && atomic_exchange(&failed_once, 1) == 0;
}

static int change_fails(const char *path) {
    return is_below(path) && fault_after_freeze() == READONLY;
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
    if (sync_fails(fd)) return fails(EIO);
    trace_sync(fd);
    return NEXT(fsync)(fd);
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
        enum fault fault = is_below(path) ? fault_after_freeze() : NONE;       \
        if (fault == NO_FILES) return fails(EMFILE);                           \
        if (flags & (O_WRONLY | O_RDWR | O_CREAT)) {                           \
            if (fault == READONLY) return fails(EROFS);                        \
            if (fault == FULL && (flags & O_CREAT) && access(path, F_OK) != 0) \
                return fails(ENOSPC);                                          \
        }                                                                      \
        return NEXT(name)(path, flags, mode);                                  \
    }

OPENER(open)
OPENER(open64)

DIR *opendir(const char *path) {
    if (is_below(path) && fault_after_freeze() == NO_FILES) {
        errno = EMFILE;
        return NULL;
    }
    return NEXT(opendir)(path);
}

int rename(const char *from, const char *to) {
    return change_fails(to) ? fails(EROFS) : NEXT(rename)(from, to);
}

int unlink(const char *path) {
    return change_fails(path) ? fails(EROFS) : NEXT(unlink)(path);
}

int mkdir(const char *path, mode_t mode) {
    if (change_fails(path)) return fails(EROFS);
    int made = NEXT(mkdir)(path, mode);
    if (made == 0) trace("mkdir", path);
    return made;
}
