/* An LD_PRELOAD library that writes down what a process does to the files of one folder.
 *
 * Every pwrite, write, ftruncate, fsync and fdatasync on a file below WRITE_LOG_FOLDER goes into
 * WRITE_LOG, in order, and so do unlink and rename of one and the sync of the folder itself (as
 * "."). So does each promise that the process marks by calling write_log_mark().
 * From that log, tests/fault/power_cut.py makes the files as a power cut might have left them.
 *
 * One record: kind, length of the name, offset, length of the data (64 bits each), name, data.
 * A sync is two records, since only what was written before it began is sure to be on disk. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, TRUNCATE = 2, SYNC_BEGINS = 3, SYNC_ENDS = 4, MARK = 5, UNLINK = 6, RENAME = 7 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_descriptor = -1;
static const char *folder;

static void append(uint64_t kind, const char *name, uint64_t offset, const void *data, uint64_t length) {
    uint64_t head[4] = {kind, strlen(name), offset, length};
    struct iovec parts[3] = {{head, sizeof head}, {(void *)name, head[1]}, {(void *)data, length}};
    pthread_mutex_lock(&lock);
    if (log_descriptor < 0) {
        const char *path = getenv("WRITE_LOG");
        log_descriptor = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    }
    if (log_descriptor < 0 || syscall(SYS_writev, log_descriptor, parts, 3) != (ssize_t)(sizeof head + head[1] + length))
        abort();
    pthread_mutex_unlock(&lock);
}

/* The name of a file below the folder, or NULL if the descriptor is something else. */
static const char *watched(int descriptor, char *path) {
    if (!folder && !(folder = getenv("WRITE_LOG_FOLDER"))) return NULL;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    size_t prefix = strlen(folder);
    if (length < (ssize_t)prefix) return NULL;
    path[length] = 0;
    if (strcmp(path, folder) == 0) return ".";
    return strncmp(path, folder, prefix) == 0 && path[prefix] == '/' ? path + prefix + 1 : NULL;
}

/* The same for a path, which has to be absolute. */
static const char *watched_path(const char *path) {
    if (!folder && !(folder = getenv("WRITE_LOG_FOLDER"))) return NULL;
    size_t prefix = strlen(folder);
    return strncmp(path, folder, prefix) == 0 && path[prefix] == '/' ? path + prefix + 1 : NULL;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define PWRITE(name)                                                          \
    ssize_t name(int descriptor, const void *data, size_t length, off_t at) { \
        REAL(name);                                                           \
        ssize_t done = real(descriptor, data, length, at);                    \
        char path[PATH_MAX];                                                  \
        const char *file = done > 0 ? watched(descriptor, path) : NULL;       \
        if (file) append(WRITE, file, (uint64_t)at, data, (uint64_t)done);    \
        return done;                                                          \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

ssize_t write(int descriptor, const void *data, size_t length) {
    REAL(write);
    char path[PATH_MAX];
    const char *file = watched(descriptor, path);
    off_t at = file ? lseek(descriptor, 0, SEEK_CUR) : 0;
    ssize_t done = real(descriptor, data, length);
    if (file && done > 0) append(WRITE, file, (uint64_t)at, data, (uint64_t)done);
    return done;
}

#define TRUNCATES(name)                                                   \
    int name(int descriptor, off_t length) {                              \
        REAL(name);                                                       \
        int done = real(descriptor, length);                              \
        char path[PATH_MAX];                                              \
        const char *file = done == 0 ? watched(descriptor, path) : NULL;  \
        if (file) append(TRUNCATE, file, (uint64_t)length, "", 0);        \
        return done;                                                      \
    }
TRUNCATES(ftruncate)
TRUNCATES(ftruncate64)

#define SYNCS(name)                                            \
    int name(int descriptor) {                                 \
        REAL(name);                                            \
        char path[PATH_MAX];                                   \
        const char *file = watched(descriptor, path);          \
        if (file) append(SYNC_BEGINS, file, 0, "", 0);         \
        int done = real(descriptor);                           \
        if (file && done == 0) append(SYNC_ENDS, file, 0, "", 0); \
        return done;                                           \
    }
SYNCS(fsync)
SYNCS(fdatasync)

int unlink(const char *path) {
    REAL(unlink);
    int done = real(path);
    const char *file = done == 0 ? watched_path(path) : NULL;
    if (file) append(UNLINK, file, 0, "", 0);
    return done;
}

int rename(const char *from, const char *to) {
    REAL(rename);
    int done = real(from, to);
    const char *file = done == 0 ? watched_path(from) : NULL;
    const char *target = file ? watched_path(to) : NULL;
    if (file && target) append(RENAME, file, 0, target, strlen(target));
    return done;
}

void write_log_mark(const char *text) { append(MARK, text, 0, "", 0); }
