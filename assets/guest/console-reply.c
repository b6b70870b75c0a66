// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * console-reply ID STATUS FILE: the reply of console-shell to command ID, whose output is in FILE, to standard output.
 *
 * One process where the shell would start stat and cat for each command: that was half of what a command cost.
 */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct stat file;
    int fd;

    if (argc != 4)
        errx(2, "usage: console-reply ID STATUS FILE");
    if ((fd = open(argv[3], O_RDONLY)) < 0 || fstat(fd, &file))
        err(1, "%s", argv[3]);
    char *output = malloc(file.st_size + 1);
    if (!output || read(fd, output, file.st_size) != file.st_size)
        err(1, "%s", argv[3]);
    printf("\036b %s %s %lld\n", argv[1], argv[2], (long long)file.st_size);
    fwrite(output, 1, file.st_size, stdout);
    printf("\036e %s\n", argv[1]);
    return fflush(stdout) ? 1 : 0;
}
