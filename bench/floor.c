// The least a container start can cost on this machine: clone3 with every namespace, an overlay mount, pivot_root,
// /proc, /dev, exec of `true`, wait, clean-up. No engine, no JSON, no control group, no image store.
//
// usage: floor MODE RUNS ROOTFS SCRATCH     MODE: exec | none | net
//   exec: fork and exec only; none: all namespaces but the network's; net: with a network namespace, lo up.
// Prints the median in microseconds.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what) {
  perror(what);
  _exit(70);
}

static double now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void loopback_up(void) {
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_LOOPBACK};
  if (s < 0 || ioctl(s, SIOCSIFFLAGS, &request)) die("lo");
  close(s);
}

static void container(const char *options, const char *mount_point, int net) {
  if (mount(0, "/", 0, MS_REC | MS_PRIVATE, 0)) die("private");
  if (mount("overlay", mount_point, "overlay", 0, options)) die("overlay");
  if (chdir(mount_point)) die("chdir");
  if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0)) die("proc");
  if (mount("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755,size=65536k")) die("dev");
  if (mknod("dev/null", S_IFCHR | 0666, 0x103)) die("null");
  if (syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/")) die("pivot_root");
  sethostname("floor", 5);
  if (net) loopback_up();
  execl("/bin/busybox", "true", (char *)0);
  die("exec");
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double once(const char *mode, const char *rootfs, const char *scratch, int run) {
  double start = now_us();
  int status, net = !strcmp(mode, "net");
  if (!strcmp(mode, "exec")) {
    pid_t child = vfork();
    if (!child) {
      execl("/bin/busybox", "true", (char *)0);
      _exit(127);
    }
    waitpid(child, &status, 0);
    return now_us() - start;
  }
  char upper[512], work[512], point[512], options[2048];
  snprintf(upper, sizeof upper, "%s/u%d", scratch, run);
  snprintf(work, sizeof work, "%s/w%d", scratch, run);
  snprintf(point, sizeof point, "%s/m%d", scratch, run);
  mkdir(upper, 0755);
  mkdir(work, 0755);
  mkdir(point, 0755);
  snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s", rootfs, upper, work);
  struct clone_args args = {
      .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP | (net ? CLONE_NEWNET : 0),
      .exit_signal = SIGCHLD,
  };
  pid_t child = syscall(SYS_clone3, &args, sizeof args);
  if (child < 0) die("clone3");
  if (!child) container(options, point, net);
  if (waitpid(child, &status, 0) < 0 || status) {
    fprintf(stderr, "the child failed: %x\n", status);
    exit(1);
  }
  char inner[600];
  snprintf(inner, sizeof inner, "%s/work", work);
  rmdir(inner);
  rmdir(work);
  rmdir(point);
  rmdir(upper);
  return now_us() - start;
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  int runs = atoi(argv[2]);
  double *times = calloc(runs, sizeof *times);
  mkdir(argv[4], 0755);
  for (int run = 0; run < runs; run++) times[run] = once(argv[1], argv[3], argv[4], run);
  qsort(times, runs, sizeof *times, compare);
  printf("%.0f\n", times[runs / 2]);
  rmdir(argv[4]);
  return 0;
}
