/* Planted faults, one a run: a sanitizer or valgrind that does not report them was not there. See programs/armed.rs. */
#include "check.h"

#include <pthread.h>

/* A leak is what no word anywhere seems to point to, and a stale one in a register or in a dead frame is enough to hide
 * one. So these are many, and they are lost in a thread that ends: nobody looks for pointers on its stack. */
static void *lose_errors(void *unused)
{
    stk_error *error = NULL;
    (void)unused;
    for (int i = 0; i < 64; i++)
        if (stk_init(NULL, 0, NULL, &error) != STK_CONFIG) abort();
    return NULL;
}

int main(int argc, char **argv)
{
    const char *fault = argc > 1 ? argv[1] : "none";
    stk_error *error = NULL;
    volatile size_t four = 4; /* so that no compiler sees it coming */
    volatile int most = INT32_MAX;
    volatile int sum = 0;
    if (stk_init(NULL, 0, NULL, &error)) return stk_error_print(error);
    if (stk_init(NULL, 0, NULL, &error) != STK_CONFIG) return 2; /* an error, from the library's allocator */
    char *block = malloc(four);
    if (!block) return 2;
    memset(block, 1, four);
    if (strcmp(fault, "overflow") == 0) sum = block[four];
    if (strcmp(fault, "signed_overflow") == 0) sum = most + (int)four;
    if (strcmp(fault, "leak") == 0) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, lose_errors, NULL) != 0 || pthread_join(thread, NULL) != 0) return 2;
    }
    if (strcmp(fault, "uninitialised") == 0) {
        volatile uintptr_t unset = (uintptr_t)malloc(four);
        if (*(volatile int *)unset == 7) puts("seven");
        free((void *)unset);
    }
    stk_error_free(error);
    volatile uintptr_t gone = (uintptr_t)block;
    free(block);
    if (strcmp(fault, "after_free") == 0) sum = *(volatile char *)gone;
    return sum > 1000000 ? 3 : 0;
}
