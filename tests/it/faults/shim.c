/* Stands between the daemon and the C library (LD_PRELOAD), and does two things, both named by the environment.
 *
 * CDRD_FAULTS=FILE: system calls fail as FILE says, one rule a line: OPERATION PATTERN FAULT SKIP TIMES. Operations: write,
 * sync, rename, link, unlink, create, mkdir, truncate, read, change (all of them but read). PATTERN is a glob over the whole
 * path. FAULT: ENOSPC, EIO, EROFS, EDQUOT, EACCES, SHORT (half is written, then ENOSPC), or a number: milliseconds
 * that the call takes longer. The first SKIP calls pass, the next TIMES fail (-1: all). FILE may be replaced (by a rename)
 * at any time; counting then begins anew. What was made to fail is appended to FILE.hits.
 *
 * CDRD_RECORD=FILE with CDRD_RECORD_BELOW=FOLDER: every change below FOLDER and every flush is appended to FILE, in the
 * order in which they took effect. The test that replays it (powercuts.rs) describes the layout. */
#define _GNU_SOURCE
#include <dlfcn.h>
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
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum op { WRITE, SYNC, RENAME, LINK, UNLINK, CREATE, MKDIR, TRUNCATE, READ, SYNCFS, RMDIR };
static const char *const names[] = {"write", "sync", "rename", "link", "unlink", "create", "mkdir", "truncate", "read", "sync", "unlink"};

struct rule { char op[12], pattern[256], fault[12]; long skip, times; };

static pthread_mutex_t faults_lock = PTHREAD_MUTEX_INITIALIZER, record_lock = PTHREAD_MUTEX_INITIALIZER;
static struct rule rules[16];
static int rule_count;
static struct stat loaded;
static const char *faults_file, *record_below;
static int record_fd = -1;

#define REAL(name) ({ static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name); real; })

__attribute__((constructor)) static void begin(void) {
    faults_file = getenv("CDRD_FAULTS");
    const char *record = getenv("CDRD_RECORD");
    record_below = getenv("CDRD_RECORD_BELOW");
    if (record && record_below) record_fd = (int)syscall(SYS_openat, AT_FDCWD, record, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

static void load(void) {
    struct stat now;
    if (syscall(SYS_newfstatat, AT_FDCWD, faults_file, &now, 0) != 0) { rule_count = 0; return; }
    if (now.st_ino == loaded.st_ino && now.st_mtim.tv_sec == loaded.st_mtim.tv_sec && now.st_mtim.tv_nsec == loaded.st_mtim.tv_nsec) return;
    loaded = now;
    rule_count = 0;
    char text[4096];
    int fd = (int)syscall(SYS_openat, AT_FDCWD, faults_file, O_RDONLY | O_CLOEXEC, 0);
    long got = fd < 0 ? 0 : syscall(SYS_read, fd, text, sizeof text - 1);
    if (fd >= 0) syscall(SYS_close, fd);
    text[got > 0 ? got : 0] = 0;
    char *rest = text, *line;
    while ((line = strsep(&rest, "\n")) && rule_count < 16) {
        struct rule *rule = &rules[rule_count];
        if (sscanf(line, "%11s %255s %11s %ld %ld", rule->op, rule->pattern, rule->fault, &rule->skip, &rule->times) == 5) rule_count++;
    }
}

static void hit(const struct rule *rule, enum op op, const char *path) {
    char name[PATH_MAX + 8], line[PATH_MAX + 64];
    snprintf(name, sizeof name, "%s.hits", faults_file);
    int length = snprintf(line, sizeof line, "%s %s %s\n", names[op], path, rule->fault);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd >= 0) { syscall(SYS_write, fd, line, (size_t)length); syscall(SYS_close, fd); }
}

/* 0: the call may go on; else the errno it fails with. -1: a short write. */
static int fault(enum op op, const char *path, const char *other) {
    if (!faults_file || !path) return 0;
    int wait = 0, code = 0;
    pthread_mutex_lock(&faults_lock);
    load();
    for (int at = 0; at < rule_count && !code && !wait; at++) {
        struct rule *rule = &rules[at];
        if (strcmp(rule->op, names[op]) != 0 && !(strcmp(rule->op, "change") == 0 && op != READ)) continue;
        if (fnmatch(rule->pattern, path, 0) != 0 && !(other && fnmatch(rule->pattern, other, 0) == 0)) continue;
        if (rule->skip > 0) { rule->skip--; continue; }
        if (rule->times == 0) continue;
        if (rule->times > 0) rule->times--;
        code = !strcmp(rule->fault, "ENOSPC") ? ENOSPC : !strcmp(rule->fault, "EIO") ? EIO : !strcmp(rule->fault, "EROFS") ? EROFS
             : !strcmp(rule->fault, "EDQUOT") ? EDQUOT : !strcmp(rule->fault, "EACCES") ? EACCES : !strcmp(rule->fault, "SHORT") ? -1 : 0;
        if (!code) wait = atoi(rule->fault);
        if (code == -1 && op != WRITE) code = ENOSPC;
        hit(rule, op, path);
    }
    pthread_mutex_unlock(&faults_lock);
    if (wait) {
        struct timespec pause = {wait / 1000, wait % 1000 * 1000000L};
        nanosleep(&pause, NULL);
    }
    return code;
}

static const char *path_of(int fd, char *into) {
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, into, PATH_MAX - 1);
    if (length <= 0) return NULL;
    into[length] = 0;
    return into[0] == '/' ? into : NULL;
}

/* The whole path of a name relative to a folder. */
static const char *path_at(int dir, const char *path, char *into) {
    if (path[0] == '/') return path;
    char folder[PATH_MAX];
    if (dir == AT_FDCWD) { if (syscall(SYS_getcwd, folder, sizeof folder) <= 0) return path; }
    else if (!path_of(dir, folder)) return path;
    while (path[0] == '.' && path[1] == '/') path += 2;
    if (!strcmp(path, ".")) snprintf(into, PATH_MAX, "%s", folder);
    else if (snprintf(into, PATH_MAX, "%s/%s", folder, path) >= PATH_MAX) return path;
    return into;
}

static int recorded(const char *path) {
    if (record_fd < 0 || !path) return 0;
    size_t length = strlen(record_below);
    return !strncmp(path, record_below, length) && (path[length] == '/' || !path[length]);
}

struct __attribute__((packed)) entry { uint8_t op; uint16_t path, other; uint64_t offset, length; };

static void record(enum op op, const char *path, const char *other, uint64_t offset, const void *data, uint64_t length) {
    struct entry entry = {(uint8_t)op, (uint16_t)strlen(path), (uint16_t)(other ? strlen(other) : 0), offset, length};
    struct iovec parts[] = {{&entry, sizeof entry}, {(void *)path, entry.path}, {(void *)other, entry.other}, {(void *)data, data ? length : 0}};
    if (syscall(SYS_writev, record_fd, parts, 4) < 0) abort();
}

/* Does a call and records it, in one step for all threads. */
#define RECORDED(yes, call, good, note) ({ \
    int noted_ = (yes); \
    if (noted_) pthread_mutex_lock(&record_lock); \
    __typeof__(call) result_ = (call); \
    if (noted_) { int saved_ = errno; if (result_ good) { note; } errno = saved_; pthread_mutex_unlock(&record_lock); } \
    result_; })

#define REFUSE(op, path, other) do { int code_ = fault(op, path, other); if (code_) { errno = code_; return -1; } } while (0)

static int is_regular(int fd) {
    struct stat now;
    return syscall(SYS_fstat, fd, &now) == 0 && S_ISREG(now.st_mode);
}

static ssize_t short_write(ssize_t (*go)(int, const void *, size_t, off_t), int fd, const void *data, size_t length, off_t offset, const char *path) {
    int code = fault(WRITE, path, NULL);
    if (code > 0) { errno = code; return -1; }
    if (code == -1) {
        if (length < 2) { errno = ENOSPC; return -1; }
        length /= 2;
    }
    uint64_t at = (uint64_t)(offset >= 0 ? offset : lseek(fd, 0, SEEK_CUR));
    return RECORDED(recorded(path), go(fd, data, length, offset), >= 0, record(WRITE, path, NULL, at, data, (uint64_t)result_));
}

static ssize_t go_write(int fd, const void *data, size_t length, off_t offset) { (void)offset; return REAL(write)(fd, data, length); }
static ssize_t go_pwrite(int fd, const void *data, size_t length, off_t offset) { return REAL(pwrite64)(fd, data, length, offset); }

static int watched(void) { return faults_file || record_fd >= 0; }

ssize_t write(int fd, const void *data, size_t length) {
    char path[PATH_MAX];
    if (!watched() || !is_regular(fd)) return go_write(fd, data, length, -1);
    return short_write(go_write, fd, data, length, -1, path_of(fd, path));
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) {
    char path[PATH_MAX];
    if (!watched()) return go_pwrite(fd, data, length, offset);
    return short_write(go_pwrite, fd, data, length, offset, path_of(fd, path));
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return pwrite64(fd, data, length, offset); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (!watched() || !is_regular(fd)) return REAL(writev)(fd, parts, count);
    /* A short write is allowed: the caller goes on with the rest. */
    for (int at = 0; at < count; at++) if (parts[at].iov_len) return write(fd, parts[at].iov_base, parts[at].iov_len);
    return 0;
}

ssize_t read(int fd, void *data, size_t length) {
    char path[PATH_MAX];
    if (faults_file && is_regular(fd)) REFUSE(READ, path_of(fd, path), NULL);
    return REAL(read)(fd, data, length);
}
ssize_t pread64(int fd, void *data, size_t length, off_t offset) {
    char path[PATH_MAX];
    if (faults_file) REFUSE(READ, path_of(fd, path), NULL);
    return REAL(pread64)(fd, data, length, offset);
}
ssize_t pread(int fd, void *data, size_t length, off_t offset) { return pread64(fd, data, length, offset); }

#define FLUSH(name, op) int name(int fd) { \
    char path[PATH_MAX]; \
    const char *at = watched() ? path_of(fd, path) : NULL; \
    REFUSE(op, at, NULL); \
    return RECORDED(recorded(at), REAL(name)(fd), == 0, record(op, at, NULL, 0, NULL, 0)); }
FLUSH(fsync, SYNC)
FLUSH(fdatasync, SYNC)
FLUSH(syncfs, SYNCFS)

#define CUT(name, type) int name(int fd, type length) { \
    char path[PATH_MAX]; \
    const char *at = watched() ? path_of(fd, path) : NULL; \
    REFUSE(TRUNCATE, at, NULL); \
    return RECORDED(recorded(at), REAL(name)(fd, length), == 0, record(TRUNCATE, at, NULL, (uint64_t)length, NULL, 0)); }
CUT(ftruncate, off_t)
CUT(ftruncate64, off64_t)

static int go_open(int dir, const char *name, int flags, mode_t mode) {
    char into[PATH_MAX];
    const char *path = path_at(dir, name, into);
    struct stat now;
    int creates = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
    int there = !(flags & O_CREAT) || syscall(SYS_newfstatat, dir, name, &now, AT_SYMLINK_NOFOLLOW) == 0;
    char nameless[PATH_MAX + 8];
    if ((flags & O_TMPFILE) == O_TMPFILE) {
        snprintf(nameless, sizeof nameless, "%s/#", path);
        REFUSE(CREATE, nameless, NULL);
    } else if (creates && !there) REFUSE(CREATE, path, NULL);
    else if (flags & (O_TRUNC | O_WRONLY | O_RDWR)) REFUSE(flags & O_TRUNC ? TRUNCATE : CREATE, path, NULL);
    int noted = recorded(path) && ((flags & O_TMPFILE) != O_TMPFILE) && (!there || (flags & O_TRUNC));
    return RECORDED(noted, (int)syscall(SYS_openat, dir, name, flags, mode), >= 0,
        if (there) record(TRUNCATE, path, NULL, 0, NULL, 0); else record(CREATE, path, NULL, 0, NULL, 0));
}

static mode_t mode_of(int flags, va_list more) { return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(more, mode_t) : 0; }
#define OPEN(name) int name(const char *path, int flags, ...) { \
    va_list more; va_start(more, flags); mode_t mode = mode_of(flags, more); va_end(more); \
    return watched() ? go_open(AT_FDCWD, path, flags, mode) : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode); }
#define OPENAT(name) int name(int dir, const char *path, int flags, ...) { \
    va_list more; va_start(more, flags); mode_t mode = mode_of(flags, more); va_end(more); \
    return watched() ? go_open(dir, path, flags, mode) : (int)syscall(SYS_openat, dir, path, flags, mode); }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

static int go_rename(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    char from_into[PATH_MAX], to_into[PATH_MAX];
    const char *old = path_at(from_dir, from, from_into), *new = path_at(to_dir, to, to_into);
    REFUSE(RENAME, old, new);
    return RECORDED(recorded(old) || recorded(new), (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags), == 0, record(RENAME, old, new, 0, NULL, 0));
}
int rename(const char *from, const char *to) { return go_rename(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int from_dir, const char *from, int to_dir, const char *to) { return go_rename(from_dir, from, to_dir, to, 0); }
int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) { return go_rename(from_dir, from, to_dir, to, flags); }

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    char from_into[PATH_MAX], to_into[PATH_MAX];
    const char *old = path_at(from_dir, from, from_into), *new = path_at(to_dir, to, to_into);
    REFUSE(LINK, old, new);
    return RECORDED(recorded(new), (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags), == 0, record(LINK, old, new, 0, NULL, 0));
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int dir, const char *name, int flags) {
    char into[PATH_MAX];
    const char *path = path_at(dir, name, into);
    REFUSE(UNLINK, path, NULL);
    enum op op = flags & AT_REMOVEDIR ? RMDIR : UNLINK;
    return RECORDED(recorded(path), (int)syscall(SYS_unlinkat, dir, name, flags), == 0, record(op, path, NULL, 0, NULL, 0));
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdirat(int dir, const char *name, mode_t mode) {
    char into[PATH_MAX];
    const char *path = path_at(dir, name, into);
    REFUSE(MKDIR, path, NULL);
    return RECORDED(recorded(path), (int)syscall(SYS_mkdirat, dir, name, mode), == 0, record(MKDIR, path, NULL, 0, NULL, 0));
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }
