/* A machine that seems to have been suspended, for a process that has this library preloaded: the
 * file that SUSPENDED_SECONDS names has the seconds by which the clock that counts suspended time
 * is ahead of the one that does not. */

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long suspended_seconds(void) {
    const char *path = getenv("SUSPENDED_SECONDS");
    FILE *file = path ? fopen(path, "r") : NULL;
    long seconds = 0;
    if (file) {
        if (fscanf(file, "%ld", &seconds) != 1) {
            seconds = 0;
        }
        fclose(file);
    }
    return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && clock == CLOCK_BOOTTIME) {
        time->tv_sec += suspended_seconds();
    }
    return result;
}
