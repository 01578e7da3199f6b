/* A small harness for the programs beside it: CHECK and its kin say what was wrong and where, and go on; each TEST prints
 * a line that c-api/tests/programs.rs reads; the exit status is 1 if anything failed.
 *
 * A program's `main` begins with stk_init, as every host's does, and ends with `return run_tests(…)`. What a test wants
 * of a worker is an action of the program's app: the checks are of the host. */
#ifndef CHECK_H
#define CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* the programs are C11, and use POSIX */
#endif
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "stokehold.h"

static int check_failures; /* of the test that runs */
static const char *check_skipped;

/* `cond`, or a line that says what was not so. */
#define CHECK(cond) check_that((cond), __FILE__, __LINE__, #cond)
/* The same, where the rest of the test makes no sense without. */
#define NEED(cond) ((cond) ? (void)0 : check_abort(__FILE__, __LINE__, #cond))
/* `call` returned the status `expected`. */
#define IS(expected, call) check_status(__FILE__, __LINE__, #call, (expected), (call))
/* `call`, whose error goes to a variable `e`, returned `expected` and an error that says so and has `part` in its
 * message. The error is freed. */
#define FAILS(expected, part, call) check_error(__FILE__, __LINE__, #call, (expected), (call), (part), &e)
/* `call`, whose error goes to a variable `e`, worked: the rest of the test makes no sense without. */
#define WORKS(call) check_works(__FILE__, __LINE__, #call, (call), &e)
/* This test cannot run here; nothing of it passes silently. */
#define SKIP(reason)            \
    do {                        \
        check_skipped = reason; \
        return;                 \
    } while (0)

#define S(string) stk_str_from(string)
#define COUNT(array) (sizeof(array) / sizeof *(array))

static inline void check_that(bool good, const char *file, int line, const char *what)
{
    if (good) return;
    check_failures++;
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
}

static inline void check_abort(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: not so, and without it the test cannot go on: %s\n", file, line, what);
    _exit(1);
}

static inline void check_status(const char *file, int line, const char *what, stk_status expected, stk_status status)
{
    if (status == expected) return;
    check_failures++;
    fprintf(stderr, "%s:%d: %s (%u) instead of %s: %s\n", file, line, stk_status_name(status), (unsigned)status,
            stk_status_name(expected), what);
}

static inline void check_error(const char *file, int line, const char *what, stk_status expected, stk_status status,
                               const char *part, stk_error **error)
{
    check_status(file, line, what, expected, status);
    if (*error == NULL || stk_error_status(*error) != status || !strstr(stk_error_message(*error), part)) {
        check_failures++;
        fprintf(stderr, "%s:%d: the error is %u \"%s\", not one with \"%s\": %s\n", file, line,
                (unsigned)stk_error_status(*error), stk_error_message(*error), part, what);
    }
    stk_error_free(*error);
    *error = NULL;
}

static inline void check_works(const char *file, int line, const char *what, stk_status status, stk_error **error)
{
    if (status == STK_OK && *error == NULL) return;
    fprintf(stderr, "%s:%d: %s: %s: %s\n", file, line, stk_status_name(status), stk_error_message(*error), what);
    _exit(1);
}

typedef struct {
    const char *name;
    void (*run)(void);
} test;

#define TEST(function) {#function, function}

/* Runs all, or the one that the first argument names. */
static inline int run_tests(const test *tests, size_t n, int argc, char **argv)
{
    int passed = 0, failed = 0, skipped = 0;
    for (size_t i = 0; i < n; i++) {
        if (argc > 1 && strcmp(argv[1], tests[i].name) != 0) continue;
        check_failures = 0, check_skipped = NULL;
        printf("begin %s\n", tests[i].name), fflush(stdout); /* before a copy of this process could print it, too */
        tests[i].run();
        if (check_failures) printf("test %s ... FAILED\n", tests[i].name), failed++;
        else if (check_skipped) printf("SKIPPED %s (%s)\n", tests[i].name, check_skipped), skipped++;
        else printf("test %s ... ok\n", tests[i].name), passed++;
        fflush(stdout);
    }
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped), fflush(stdout);
    return failed != 0;
}

/* Whether the program runs under "valgrind", "address": what the runner says of its own. */
static inline bool under(const char *tool)
{
    const char *tools = getenv("STOKEHOLD_UNDER");
    return tools && strstr(tools, tool);
}

static inline void sleep_ms(long ms)
{
    const struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* Goes on until `cond` holds, or half a minute has shown that it never will. */
#define UNTIL(cond)                                                             \
    do {                                                                        \
        int rounds_ = 0;                                                        \
        while (!(cond) && rounds_ < 30000) sleep_ms(1), rounds_++;              \
        check_that(rounds_ < 30000, __FILE__, __LINE__, "at last, " #cond);     \
    } while (0)

static inline bool lives(pid_t pid)
{
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file) return false;
    if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1) state = 0;
    fclose(file);
    return state != 0 && state != 'Z' && state != 'X';
}

/* In an app: says that it has begun, to a test that waits for the file to be there, and takes it away. */
static inline stk_status has_begun(const char *file)
{
    FILE *made = fopen(file, "w");
    return made && fclose(made) == 0 ? STK_OK : STK_APP;
}

/* --- hosts --- */

/* A pool and a client of it. */
typedef struct {
    stk_pool *pool;
    stk_client *client;
} host;

static inline host host_up(stk_config *config)
{
    host h = {NULL, NULL};
    stk_error *e = NULL;
    WORKS(stk_pool_start(config, &h.pool, &e));
    WORKS(stk_client_new(h.pool, &h.client, &e));
    return h;
}

static inline void host_down(host h)
{
    stk_client_free(h.client);
    stk_pool_free(h.pool);
}

static inline stk_completions *queue_of(host h)
{
    stk_completions *queue = NULL;
    stk_error *e = NULL;
    WORKS(stk_completions_new(h.client, &queue, &e));
    return queue;
}

/* For a thread: cancels while another one waits. */
static inline void *cancel_soon(void *canceller)
{
    sleep_ms(50);
    IS(STK_OK, stk_canceller_cancel((stk_canceller *)canceller, NULL));
    return NULL;
}

/* Calls an action of the app "t". */
static inline stk_status run(stk_client *client, const char *action, stk_args *args, stk_result **result, stk_error **e)
{
    return stk_execute(client, STK_STR("t"), S(action), args, NULL, result, e);
}

/* The same with one integer for an argument. */
static inline stk_status run_i64(stk_client *client, const char *action, int64_t n, stk_result **result, stk_error **e)
{
    stk_args *args = stk_args_new(client);
    stk_args_push_i64(args, n);
    return run(client, action, args, result, e);
}

/* What an action answers that answers an integer; -1 if it does not. */
static inline int64_t ask(stk_client *client, const char *action, int64_t n)
{
    int64_t answer = -1;
    stk_result *result = NULL;
    if (run_i64(client, action, n, &result, NULL) != STK_OK) return -1;
    if (stk_result_i64(result, &answer) != STK_OK) answer = -1;
    stk_result_free(result);
    return answer;
}

static inline stk_config *workers(size_t n)
{
    stk_config *config = stk_config_new();
    stk_config_set_workers(config, n);
    return config;
}

/* Whether an action is called so. */
static inline bool called(const stk_call *call, const char *action)
{
    return stk_str_eq(stk_call_action(call), S(action));
}

/* Bytes that only item `i` has. */
static inline void fill(void *data, size_t len, int64_t i)
{
    for (size_t at = 0; at < len; at++) ((unsigned char *)data)[at] = (unsigned char)((size_t)i * 31 + at % 251);
}

static inline bool is_filled(stk_bytes bytes, size_t len, int64_t i)
{
    if (bytes.len != len) return false;
    for (size_t at = 0; at < len; at++)
        if (((const unsigned char *)bytes.data)[at] != (unsigned char)((size_t)i * 31 + at % 251)) return false;
    return true;
}

/* --- items --- */

/* A result that is a number, which is freed; -1 if it is something else. */
static inline int64_t number(stk_result *item)
{
    int64_t n = -1;
    IS(STK_OK, stk_result_i64(item, &n));
    stk_result_free(item);
    return n;
}

/* The next item, which is a number; -1 if there is none. */
static inline int64_t next_number(stk_stream *stream)
{
    stk_result *item = NULL;
    stk_error *e = NULL;
    const stk_status status = stk_stream_next(stream, STK_FOREVER, &item, &e);
    if (status == STK_END) CHECK(e == NULL && item == NULL);
    else IS(STK_OK, status);
    stk_error_free(e);
    return status == STK_OK ? number(item) : -1;
}

/* Waits for the end: the number behind the items. */
static inline int64_t end_of(stk_stream *stream)
{
    int64_t n = -1;
    stk_value value;
    stk_error *e = NULL;
    WORKS(stk_stream_wait(stream, STK_FOREVER, &e));
    CHECK(stk_stream_value(stream, &value) == STK_OK && stk_value_i64(&value, &n) == STK_OK);
    return n;
}

/* In an app: the rest of a test's own words about what went wrong in a worker. */
static inline stk_status say(stk_reply *reply, bool good, const char *what)
{
    return good ? STK_OK : stk_reply_fail(reply, STK_STR("Check"), S(what));
}

#endif
