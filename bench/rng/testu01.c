/* Batteries of TestU01 on the 32-bit words of standard input.

       cc -O2 -o testu01 testu01.c -ltestu01 -lprobdist -lmylib -lm
       python bench/rng/stream.py memory | ./testu01 small
       python bench/rng/stream.py memory | ./testu01 small reversed     the low bits come first
       python bench/rng/stream.py memory | ./testu01 crush 1 2 11       some tests of Crush, by number
*/
#include <bbattery.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <swrite.h>
#include <unif01.h>

static double words_read;

static unsigned int next_word(void)
{
    static uint32_t buffer[1 << 16];
    static size_t at, filled;
    if (at == filled) {
        filled = fread(buffer, sizeof buffer[0], sizeof buffer / sizeof buffer[0], stdin);
        at = 0;
        if (filled == 0) {
            fprintf(stderr, "standard input has ended\n");
            exit(1);
        }
        words_read += (double)filled;
    }
    return buffer[at++];
}

static unsigned int next_reversed(void)
{
    uint32_t w = next_word();
    w = ((w >> 1) & 0x55555555u) | ((w & 0x55555555u) << 1);
    w = ((w >> 2) & 0x33333333u) | ((w & 0x33333333u) << 2);
    w = ((w >> 4) & 0x0F0F0F0Fu) | ((w & 0x0F0F0F0Fu) << 4);
    w = ((w >> 8) & 0x00FF00FFu) | ((w & 0x00FF00FFu) << 8);
    return (w >> 16) | (w << 16);
}

static void print_values(void)
{
    for (int i = 0; i < bbattery_NTests; i++)
        printf(" p %-28s %.6g\n", bbattery_TestNames[i], bbattery_pVal[i]);
    printf(" words read so far: %.3g\n", words_read);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    int reversed = argc > 2 && strcmp(argv[2], "reversed") == 0;
    unif01_Gen *words = unif01_CreateExternGenBits(reversed ? "words of standard input, bits reversed"
                                                            : "words of standard input",
                                                   reversed ? next_reversed : next_word);
    swrite_Basic = FALSE;
    if (argc > 1 && strcmp(argv[1], "small") == 0) {
        bbattery_SmallCrush(words);
        print_values();
    } else if (argc > 2 && strcmp(argv[1], "crush") == 0) {
        /* One at a time, the stream going on, so that what is done is printed. Crush has 96, counted from 1. */
        for (int i = 2 + reversed; i < argc; i++) {
            int wanted[97] = {0}, test = atoi(argv[i]);
            if (test >= 1 && test <= 96) {
                wanted[test] = 1;
                bbattery_RepeatCrush(words, wanted);
                print_values();
            }
        }
    } else {
        fprintf(stderr, "usage: testu01 small [reversed] | crush [reversed] TEST...\n");
        return 2;
    }
    unif01_DeleteExternGenBits(words);
    return 0;
}
