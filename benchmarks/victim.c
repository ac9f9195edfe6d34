/* The program that every supervisor supervises here.

   victim REPORTS NAME [PIDFILE]          tells when it starts and when it is asked to stop, and does nothing else
   victim REPORTS NAME flood MB MB_PER_S  writes numbered lines of 100 bytes, tells when it is done, and waits
   victim REPORTS NAME fail SECONDS       tells when it gives up, and exits with 3

   A report is one line, NAME PID NANOSECONDS (of CLOCK_MONOTONIC); of a stop the pid is negative, and zero at the end
   of a flood. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *reports, *name;

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void report(long pid) {
    char line[128];
    int length = snprintf(line, sizeof line, "%s %ld %lld\n", name, pid, now());
    int fd = open(reports, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd >= 0) {
        if (write(fd, line, length) != length) _exit(4);
        close(fd);
    }
}

static void stop(int signum) {
    (void)signum;
    report(-(long)getpid());
    _exit(0);
}

static void flood(long megabytes, double rate) {
    enum { LINE = 100, LINES = 640 };
    static char chunk[LINE * LINES];
    long long lines = megabytes * 1000000LL / LINE, begin = now(), written = 0;
    while (written < lines) {
        int count = lines - written < LINES ? (int)(lines - written) : LINES;
        for (int i = 0; i < count; i++) {
            char number[32];
            int digits = snprintf(number, sizeof number, "%011lld ", written + i);
            memset(chunk + i * LINE, 'x', LINE - 1);
            memcpy(chunk + i * LINE, number, digits);
            chunk[i * LINE + LINE - 1] = '\n';
        }
        for (ssize_t done = 0, some; done < (ssize_t)count * LINE; done += some)
            if ((some = write(1, chunk + done, (size_t)count * LINE - done)) < 0) exit(5);
        written += count;
        double ahead = written * (double)LINE / (rate * 1e6) - (now() - begin) / 1e9;
        if (ahead > 0.001) usleep((useconds_t)(ahead * 1e6));
    }
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    reports = argv[1], name = argv[2];
    signal(SIGTERM, stop);
    signal(SIGINT, stop);
    if (argc == 5 && strcmp(argv[3], "fail") == 0) {
        usleep((useconds_t)(atof(argv[4]) * 1e6));
        fprintf(stderr, "the cause of all this\n");
        report(-(long)getpid());
        return 3;
    }
    if (argc == 4) {
        FILE *file = fopen(argv[3], "w");
        if (file) fprintf(file, "%d\n", (int)getpid()), fclose(file);
    }
    report(getpid());
    if (argc == 6 && strcmp(argv[3], "flood") == 0) {
        flood(atol(argv[4]), atof(argv[5]));
        report(0);
    }
    for (;;) pause();
}
