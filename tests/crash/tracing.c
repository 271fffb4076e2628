/* Records what a process does to the files below one directory; preloaded into it by tests/crash/trace.py.
 *
 * TRACE_ROOT is the directory, TRACE_LOG where the events go, TRACE_MARK a file whose writes become marks in the
 * log, TRACE_LIE a pattern: syncs of paths that match it are answered with success and not done. TRACE_FULL is how
 * many writes the disk has room for: from then on it is full. Every event is done and logged under one lock, so that
 * the log has the order in which things happened. The shared memory of SQLite (-shm) is left out: it is made anew
 * after a crash.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST 65536
enum { OUTSIDE, INSIDE, MARK };
static struct { char what; uint64_t ino; } open_files[MOST];
static const char *root, *mark, *lie;
static int out = -1;
static long room = -1; /* writes until the disk is full; < 0: never */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

struct __attribute__((packed)) head { char kind; uint64_t ino; int64_t at; uint32_t first, second; };

__attribute__((constructor)) static void begin(void) {
    const char *log = getenv("TRACE_LOG");
    root = getenv("TRACE_ROOT"), mark = getenv("TRACE_MARK"), lie = getenv("TRACE_LIE");
    if (getenv("TRACE_FULL")) room = atol(getenv("TRACE_FULL"));
    if (!root || !log) return;
    int fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    out = fcntl(fd, F_DUPFD_CLOEXEC, 900); /* out of the way of those who count their files */
    syscall(SYS_close, fd);
}

static void say(char kind, uint64_t ino, int64_t at, const void *a, size_t na, const char *b) {
    struct head head = {kind, ino, at, (uint32_t)na, b ? (uint32_t)strlen(b) : 0};
    struct iovec parts[3] = {{&head, sizeof head}, {(void *)a, na}, {(void *)b, head.second}};
    int kept = errno;
    if (syscall(SYS_writev, out, parts, 3) != (long)(sizeof head + na + head.second)) abort();
    errno = kept;
}

static int absolute(int dir, const char *path, char *full) { /* 1 if it is one of ours */
    char base[PATH_MAX] = "", link[64];
    if (out < 0) return 0;
    if (path[0] != '/') {
        if (dir == AT_FDCWD) {
            if (syscall(SYS_getcwd, base, sizeof base) < 0) return 0;
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
            ssize_t n = readlink(link, base, sizeof base - 1);
            if (n < 0) return 0;
            base[n] = 0;
        }
        snprintf(full, 2 * PATH_MAX, "%s/%s", base, path);
    } else {
        snprintf(full, 2 * PATH_MAX, "%s", path);
    }
    size_t n = strlen(root), m = strlen(full);
    if (strncmp(full, root, n) || (full[n] != '/' && full[n])) return 0;
    return !(m > 4 && !strcmp(full + m - 4, "-shm"));
}

static uint64_t number(int fd) {
    struct stat found;
    return fstat(fd, &found) ? 0 : found.st_ino;
}

static int opened(int dir, const char *path, int flags, mode_t mode) {
    char full[2 * PATH_MAX];
    struct stat before;
    int what = absolute(dir, path, full) ? INSIDE : (mark && out >= 0 && !strcmp(path, mark)) ? MARK : OUTSIDE;
    if (what == OUTSIDE) {
        int fd = syscall(SYS_openat, dir, path, flags, mode);
        if (fd >= 0 && fd < MOST) open_files[fd].what = OUTSIDE;
        return fd;
    }
    pthread_mutex_lock(&lock);
    int there = fstatat(dir, path, &before, 0) == 0;
    int fd = syscall(SYS_openat, dir, path, flags, mode);
    if (fd >= 0 && fd < MOST) {
        open_files[fd].what = what, open_files[fd].ino = number(fd);
        if (what == INSIDE && !there) say('C', open_files[fd].ino, 0, full, strlen(full), NULL);
        if (what == INSIDE && there && (flags & O_TRUNC)) say('T', open_files[fd].ino, 0, NULL, 0, NULL);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }
int open(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE(flags) return opened(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE(flags) return opened(dir, path, flags, mode); }
int __open_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __openat_2(int dir, const char *path, int flags) { return opened(dir, path, flags, 0); }
int __openat64_2(int dir, const char *path, int flags) { return opened(dir, path, flags, 0); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

static int is(int fd, int what) { return fd >= 0 && fd < MOST && open_files[fd].what == what; }

int close(int fd) {
    if (fd == out && out >= 0) return 0;
    if (fd >= 0 && fd < MOST) open_files[fd].what = OUTSIDE;
    return syscall(SYS_close, fd);
}

static ssize_t put(int fd, const void *data, size_t n, off_t at) { /* at < 0: where the file stands */
    if (!is(fd, INSIDE) && !is(fd, MARK))
        return at < 0 ? syscall(SYS_write, fd, data, n) : syscall(SYS_pwrite64, fd, data, n, at);
    pthread_mutex_lock(&lock);
    if (room == 0 && is(fd, INSIDE)) {
        pthread_mutex_unlock(&lock);
        return errno = ENOSPC, -1;
    }
    if (room > 0 && is(fd, INSIDE)) room--;
    ssize_t done = at < 0 ? syscall(SYS_write, fd, data, n) : syscall(SYS_pwrite64, fd, data, n, at);
    if (done > 0 && is(fd, MARK)) say('M', 0, 0, data, done, NULL);
    if (done > 0 && is(fd, INSIDE)) { /* after an append, too, the file stands at the end of what was written */
        if (at < 0) at = lseek(fd, 0, SEEK_CUR) - done;
        say('W', open_files[fd].ino, at, data, done, NULL);
    }
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t write(int fd, const void *data, size_t n) { return put(fd, data, n, -1); }
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) { return put(fd, data, n, at); }
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) { return put(fd, data, n, at); }
ssize_t writev(int fd, const struct iovec *parts, int n) {
    ssize_t done = 0;
    if (!is(fd, INSIDE) && !is(fd, MARK)) return syscall(SYS_writev, fd, parts, n);
    for (int i = 0; i < n; i++) {
        ssize_t some = put(fd, parts[i].iov_base, parts[i].iov_len, -1);
        if (some < 0) return done ? done : -1;
        done += some;
        if ((size_t)some < parts[i].iov_len) break;
    }
    return done;
}

int ftruncate(int fd, off_t size) {
    if (!is(fd, INSIDE)) return syscall(SYS_ftruncate, fd, size);
    pthread_mutex_lock(&lock);
    int said = syscall(SYS_ftruncate, fd, size);
    if (!said) say('T', open_files[fd].ino, size, NULL, 0, NULL);
    pthread_mutex_unlock(&lock);
    return said;
}
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

static int synced(int fd) { /* never done in truth: the trace is all that is asked of this process */
    char link[64], path[PATH_MAX] = "";
    if (!is(fd, INSIDE)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n > 0 && lie && fnmatch(lie, path, 0) == 0) return 0;
    pthread_mutex_lock(&lock);
    say('S', open_files[fd].ino, 0, NULL, 0, NULL);
    pthread_mutex_unlock(&lock);
    return 0;
}
int fsync(int fd) { return synced(fd); }
int fdatasync(int fd) { return synced(fd); }

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    char a[2 * PATH_MAX], b[2 * PATH_MAX];
    int ours = absolute(from_dir, from, a), theirs = absolute(to_dir, to, b);
    pthread_mutex_lock(&lock);
    int said = syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    if (!said && (ours || theirs)) say(ours && theirs && !flags ? 'R' : 'X', 0, 0, a, strlen(a), b);
    pthread_mutex_unlock(&lock);
    return said;
}
int renameat(int from_dir, const char *from, int to_dir, const char *to) { return renameat2(from_dir, from, to_dir, to, 0); }
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int dir, const char *path, int flags) {
    char full[2 * PATH_MAX];
    int ours = absolute(dir, path, full);
    pthread_mutex_lock(&lock);
    int said = syscall(SYS_unlinkat, dir, path, flags);
    if (!said && ours) say('U', 0, 0, full, strlen(full), NULL);
    pthread_mutex_unlock(&lock);
    return said;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) {
    int said = unlinkat(AT_FDCWD, path, 0);
    return said && errno == EISDIR ? rmdir(path) : said;
}

int mkdirat(int dir, const char *path, mode_t mode) {
    char full[2 * PATH_MAX];
    struct stat made;
    int ours = absolute(dir, path, full);
    pthread_mutex_lock(&lock);
    int said = syscall(SYS_mkdirat, dir, path, mode);
    if (!said && ours && !fstatat(dir, path, &made, 0)) say('D', made.st_ino, 0, full, strlen(full), NULL);
    pthread_mutex_unlock(&lock);
    return said;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

/* Copies inside the kernel show no data: refused, so that the caller reads and writes. */
ssize_t sendfile(int to, int from, off_t *at, size_t n) {
    if (is(to, INSIDE)) return errno = EINVAL, -1;
    return syscall(SYS_sendfile, to, from, at, n);
}
ssize_t sendfile64(int to, int from, off64_t *at, size_t n) { return sendfile(to, from, at, n); }
ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t n, unsigned flags) {
    if (is(to, INSIDE)) return errno = EXDEV, -1;
    return syscall(SYS_copy_file_range, from, a, to, b, n, flags);
}

/* What the replay does not understand ends the test, rather than being left out in silence. */
void *mmap(void *where, size_t n, int may, int flags, int fd, off_t at) {
    if (is(fd, INSIDE) && (may & PROT_WRITE) && (flags & MAP_SHARED)) say('X', 0, 0, "shared mapping", 14, NULL);
    return (void *)syscall(SYS_mmap, where, n, may, flags, fd, at);
}
void *mmap64(void *where, size_t n, int may, int flags, int fd, off64_t at) { return mmap(where, n, may, flags, fd, at); }
