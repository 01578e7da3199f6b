/* Planted faults, one a run: a sanitizer or valgrind that does not report them was not there. See programs/armed.rs. */
#include "check.h"

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
    if (strcmp(fault, "leak") == 0) error = NULL;
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
