// Lets one system call of a program fail, from outside: LD_PRELOAD=failing_calls.so GATO_FAILING_CALLS="call=write,nth=7,
// error=ENOSPC,path=checkpoints" program. call: write, fsync, rename or open (for writing); nth: which one counts among
// calls on paths that contain `path`; error: EIO, ENOSPC, or short (a write writes half). The call fails once, and says
// so on standard error. Works on dynamically linked calls, which C++ programs make.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
  char call[16], error[16], path[256];
  long nth;
} g_fault;
static atomic_long g_count;

static void read_value(const char* text, const char* key, char* out, size_t size) {
  const char* found = strstr(text, key);
  size_t length = 0;
  if (found != NULL) {
    found += strlen(key);
    while (found[length] != '\0' && found[length] != ',' && length + 1 < size) ++length;
    memcpy(out, found, length);
  }
  out[length] = '\0';
}

__attribute__((constructor)) static void read_fault(void) {
  const char* text = getenv("GATO_FAILING_CALLS");
  char nth[24];
  if (text == NULL) return;
  read_value(text, "call=", g_fault.call, sizeof(g_fault.call));
  read_value(text, "error=", g_fault.error, sizeof(g_fault.error));
  read_value(text, "path=", g_fault.path, sizeof(g_fault.path));
  read_value(text, "nth=", nth, sizeof(nth));
  g_fault.nth = atol(nth);
}

// Whether this call is the one; says so by the system call itself, which no library can hold up.
static int strikes(const char* call, const char* path) {
  char line[512];
  int length;
  if (g_fault.nth == 0 || strcmp(call, g_fault.call) != 0 || strstr(path, g_fault.path) == NULL) return 0;
  if (atomic_fetch_add(&g_count, 1) + 1 != g_fault.nth) return 0;
  length = snprintf(line, sizeof(line), "failing_calls: struck %s %ld of %s with %s\n", call, g_fault.nth, path, g_fault.error);
  syscall(SYS_write, 2, line, (size_t)length);
  errno = strcmp(g_fault.error, "ENOSPC") == 0 ? ENOSPC : EIO;
  return 1;
}

static const char* path_of(int descriptor, char* out, size_t size) {
  char link[64];
  ssize_t length;
  snprintf(link, sizeof(link), "/proc/self/fd/%d", descriptor);
  length = readlink(link, out, size - 1);
  out[length < 0 ? 0 : length] = '\0';
  return out;
}

ssize_t write(int descriptor, const void* data, size_t size) {
  char path[4096];
  if (g_fault.nth != 0 && descriptor > 2 && strikes("write", path_of(descriptor, path, sizeof(path)))) {
    if (strcmp(g_fault.error, "short") != 0 || size < 2) return -1;
    size /= 2;
  }
  return syscall(SYS_write, descriptor, data, size);
}

int fsync(int descriptor) {
  char path[4096];
  if (g_fault.nth != 0 && strikes("fsync", path_of(descriptor, path, sizeof(path)))) return -1;
  return (int)syscall(SYS_fsync, descriptor);
}

int rename(const char* from, const char* to) {
  if (strikes("rename", to)) return -1;
  return (int)syscall(SYS_rename, from, to);
}

static int open_file(const char* path, int flags, mode_t mode) {
  if ((flags & O_ACCMODE) != O_RDONLY && strikes("open", path)) return -1;
  return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char* path, int flags, ...) {
  mode_t mode = 0;
  if ((flags & (O_CREAT | O_TMPFILE)) != 0) {
    va_list arguments;
    va_start(arguments, flags);
    mode = va_arg(arguments, mode_t);
    va_end(arguments);
  }
  return open_file(path, flags, mode);
}

int open64(const char* path, int flags, ...) {
  mode_t mode = 0;
  if ((flags & (O_CREAT | O_TMPFILE)) != 0) {
    va_list arguments;
    va_start(arguments, flags);
    mode = va_arg(arguments, mode_t);
    va_end(arguments);
  }
  return open_file(path, flags, mode);
}
