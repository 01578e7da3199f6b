/* What C hosts have that Rust ones do not: closed standard descriptors, destructors that run after everything else, buffers
 * of stdio, tables that are wrong in the copy only, two threads that end one pool. */
#include "check.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>

static stk_status app(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    (void)user;
    stk_str path;
    stk_bytes bytes;
    if (called(call, "one")) return stk_reply_i64(reply, 1);
    if (called(call, "sleep")) {
        int64_t ms = 0;
        if (stk_call_i64(call, 0, &ms)) return STK_BAD_REQUEST;
        sleep_ms((long)ms);
        return stk_reply_i64(reply, ms);
    }
    if (called(call, "doze")) return has_begun("dozing") ? STK_APP : (sleep_ms(600000), STK_OK);
    if (called(call, "deep")) { /* more stack than Rust's threads have, less than a C program's first has */
        volatile char room[5 << 20];
        for (size_t i = 0; i < sizeof room; i += 4096) room[i] = 1;
        return stk_reply_i64(reply, room[4096]);
    }
    if (called(call, "print")) { /* into stdio's buffer, which nothing but an orderly end writes out */
        if (stk_call_str(call, 0, &path)) return STK_BAD_REQUEST;
        char name[4096];
        snprintf(name, sizeof name, "%.*s", (int)path.len, path.data);
        FILE *file = fopen(name, "w");
        return say(reply, file && fputs("buffered", file) >= 0, "fopen");
    }
    if (called(call, "first_byte")) {
        if (stk_call_bytes(call, 0, &bytes)) return STK_BAD_REQUEST;
        return stk_reply_i64(reply, ((const unsigned char *)bytes.data)[0]);
    }
    if (called(call, "own_words")) { /* the caller's fault, in the app's words */
        stk_reply_fail(reply, STK_STR("Row"), STK_STR("row 3 has no name"));
        return STK_BAD_REQUEST;
    }
    if (called(call, "optional")) { /* what was looked for in vain is not what went wrong */
        stk_value value;
        if (stk_call_named(call, STK_STR("colour"), &value) != STK_END) return STK_INVALID;
        return STK_APP;
    }
    if (called(call, "bad_text")) return stk_reply_str(reply, STK_STR("\xff"));
    return stk_call_no_action(call);
}

static pid_t forked(void (*body)(void))
{
    fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0) {
        check_failures = 0;
        body();
        _exit(check_failures != 0);
    }
    return pid;
}

static void wait_for(pid_t pid)
{
    int status = -1;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(status == 0);
}

/* --- closed descriptors --- */

static unsigned closed; /* bit n: descriptor n */

static void pool_without_descriptors(void)
{
    const int err = fcntl(2, F_DUPFD, 200);
    for (int fd = 0; fd < 3; fd++)
        if (closed & 1u << fd) close(fd);
    host h = host_up(NULL);
    /* What the program prints and reads is not the library's. */
    char byte;
    if (closed & 2u) CHECK(write(1, "hello, arbiter", 14) == 14);
    if (closed & 4u) CHECK(write(2, "hello, arbiter", 14) == 14);
    if (closed & 1u) CHECK(read(0, &byte, 1) == 0);
    CHECK(ask(h.client, "one", 0) == 1);
    host_down(h);
    if (closed & 4u) dup2(err, 2);
}

static void closed_descriptors(void)
{
    if (under("valgrind")) SKIP("its own descriptors are in the way");
    for (closed = 1; closed < 8; closed++) wait_for(forked(pool_without_descriptors));
}

/* --- last destructors --- */

static host late;
static pthread_key_t key;
static stk_status late_status = STK_PANIC;
static int rounds;

static void late_call(void *value)
{
    /* Once more, until the library's own destructors of this thread have run as well. */
    if (++rounds < 3) {
        pthread_setspecific(key, value);
        return;
    }
    stk_lease lease;
    late_status = run(late.client, "one", NULL, NULL, NULL);
    stk_error *e = NULL;
    if (stk_lease_new(late.client, 64, &lease, &e) == STK_OK) {
        stk_args *args = stk_args_new(late.client);
        stk_args_push_lease(args, lease);
        const stk_status lent = run(late.client, "first_byte", args, NULL, &e);
        CHECK(lent == STK_OK || lent == STK_BAD_REQUEST); /* says so, where leases cannot be sent any more */
        stk_lease_release(lease);
    }
    stk_error_free(e);
}

static void *thread_with_a_destructor(void *unused)
{
    stk_lease lease;
    stk_error *e = NULL;
    WORKS(stk_lease_new(late.client, 64, &lease, &e)); /* so that there is something to be destroyed */
    memset(lease.data, 3, 64);
    stk_args *args = stk_args_new(late.client);
    stk_args_push_lease(args, lease);
    WORKS(run(late.client, "first_byte", args, NULL, &e));
    stk_lease_release(lease);
    pthread_setspecific(key, &key);
    return unused;
}

static void calls_from_the_last_destructors(void)
{
    pthread_t thread;
    NEED(pthread_key_create(&key, late_call) == 0);
    late = host_up(NULL);
    NEED(pthread_create(&thread, NULL, thread_with_a_destructor, NULL) == 0);
    pthread_join(thread, NULL);
    IS(STK_OK, late_status);
    CHECK(ask(late.client, "one", 0) == 1); /* nobody else noticed */
    host_down(late);
    pthread_key_delete(key);
}

static void at_exit(void)
{
    stk_error *e = NULL;
    const stk_status status = run(late.client, "one", NULL, NULL, &e);
    if (status != STK_OK) fprintf(stderr, "at exit: %s\n", stk_error_message(e));
    _exit(status != STK_OK);
}

static void host_that_calls_at_exit(void)
{
    late = host_up(NULL);
    thread_with_a_destructor(NULL);
    atexit(at_exit);
    exit(3); /* at_exit has the last word */
}

static void calls_at_exit(void)
{
    if (under("valgrind")) SKIP("the copy would be looked at for leaks, too");
    wait_for(forked(host_that_calls_at_exit));
}

/* --- the copy --- */

static void tables_that_are_wrong_in_the_copy(void)
{
    if (under("valgrind")) SKIP("pools are started by another way there");
    stk_error *e = NULL;
    stk_pool *pool = NULL;
    setenv("STK_TEST_WRONG_TABLE", "1", 1);
    FAILS(STK_CONFIG, "struct_size", stk_pool_start(NULL, &pool, &e));
    unsetenv("STK_TEST_WRONG_TABLE");
    CHECK(pool == NULL);
}

/* --- ends --- */

static void *stopper(void *pool)
{
    stk_error *e = NULL;
    IS(STK_OK, stk_pool_stop(pool, &e));
    CHECK(!lives((pid_t)stk_pool_arbiter_pid(pool)));
    return NULL;
}

static void *sleeping_caller(void *client)
{
    return (void *)(uintptr_t)run(client, "doze", NULL, NULL, NULL);
}

static bool refuses(stk_pool *pool)
{
    stk_client *client = NULL;
    const stk_status status = stk_client_new(pool, &client, NULL);
    stk_client_free(client);
    return status == STK_SHUTTING_DOWN;
}

/* A kill ends the grace of a stop that another thread waits in; both wait until nothing is left. */
static void a_kill_during_a_stop(void)
{
    pthread_t thread, second, caller;
    void *status;
    stk_error *e = NULL;
    host h = host_up(NULL);
    NEED(pthread_create(&caller, NULL, sleeping_caller, h.client) == 0);
    UNTIL(unlink("dozing") == 0);
    NEED(pthread_create(&thread, NULL, stopper, h.pool) == 0);
    NEED(pthread_create(&second, NULL, stopper, h.pool) == 0); /* a second stop is no kill */
    UNTIL(refuses(h.pool));
    sleep_ms(300);
    CHECK(lives((pid_t)stk_pool_arbiter_pid(h.pool)));
    IS(STK_OK, stk_pool_kill(h.pool, &e));
    CHECK(!lives((pid_t)stk_pool_arbiter_pid(h.pool)));
    pthread_join(thread, NULL), pthread_join(second, NULL), pthread_join(caller, &status);
    CHECK((uintptr_t)status == STK_WORKER_DIED || (uintptr_t)status == STK_ARBITER_DIED);
    host_down(h);
}

/* --- what a worker has --- */

static void stack_of_a_c_program(void)
{
    struct rlimit limit;
    NEED(getrlimit(RLIMIT_STACK, &limit) == 0);
    if (limit.rlim_cur < 6 << 20) SKIP("ulimit -s is less than what the test needs");
    host h = host_up(NULL);
    CHECK(ask(h.client, "deep", 0) == 1);
    host_down(h);
}

static void what_was_printed_is_written(void)
{
    char path[64], text[16] = "";
    snprintf(path, sizeof path, "hosts-%d.txt", (int)getpid());
    stk_error *e = NULL;
    host h = host_up(NULL);
    stk_args *args = stk_args_new(h.client);
    char absolute[4096], *here = getcwd(NULL, 0);
    snprintf(absolute, sizeof absolute, "%s/%s", here, path);
    free(here);
    stk_args_push_str(args, S(absolute));
    WORKS(run(h.client, "print", args, NULL, &e));
    WORKS(stk_pool_stop(h.pool, &e));
    FILE *file = fopen(path, "r");
    CHECK(file && fgets(text, sizeof text, file) && strcmp(text, "buffered") == 0);
    if (file) fclose(file);
    unlink(path);
    host_down(h);
}

/* --- words --- */

static void whose_words_the_caller_reads(void)
{
    stk_error *e = NULL;
    host h = host_up(NULL);
    FAILS(STK_BAD_REQUEST, "Row: row 3 has no name", run(h.client, "own_words", NULL, NULL, &e));
    FAILS(STK_APP, "optional returned STK_APP", run(h.client, "optional", NULL, NULL, &e));
    FAILS(STK_APP, "not UTF-8", run(h.client, "bad_text", NULL, NULL, &e));
    NEED(run(h.client, "nothing_of_the_kind", NULL, NULL, &e) == STK_BAD_REQUEST);
    CHECK(strcmp(stk_error_message(e), "bad request: no action named \"nothing_of_the_kind\"") == 0);
    stk_error_free(e);
    host_down(h);
}

static void arguments_without_a_client(void)
{
    stk_error *e = NULL;
    host h = host_up(NULL);
    stk_args *args = stk_args_new(NULL);
    CHECK(args != NULL);
    FAILS(STK_INVALID, "`client` is NULL", run(h.client, "one", args, NULL, &e));
    host_down(h);
}

/* --- writing again --- */

static void writing_again(void)
{
    stk_error *e = NULL;
    stk_lease lease;
    stk_result *result = NULL;
    host h = host_up(NULL);
    WORKS(stk_lease_new(h.client, 1 << 16, &lease, &e));
    IS(STK_OK, stk_lease_writable(lease));
    memset(lease.data, 7, lease.size);
    stk_args *args = stk_args_new(h.client);
    stk_args_push_lease(args, lease);
    IS(STK_LENT, stk_lease_writable(lease));
    WORKS(run(h.client, "first_byte", args, &result, &e));
    stk_result_free(result);
    UNTIL(stk_lease_writable(lease) == STK_OK);
    /* A deadline is the caller's answer, not the worker's end. */
    int started = 0;
    for (uint64_t ms = 100; started == 0 && ms < 60000; ms *= 2) { /* the worker may come too late for a short one */
        args = stk_args_new(h.client);
        stk_args_push_i64(args, (int64_t)(ms + 1500));
        stk_args_push_lease(args, lease);
        const stk_options options = {.struct_size = sizeof options, .deadline_ms = ms};
        IS(STK_DEADLINE, stk_execute(h.client, STK_STR("t"), STK_STR("sleep"), args, &options, NULL, &e));
        started = stk_error_started(e);
        stk_error_free(e), e = NULL;
    }
    IS(STK_LENT, stk_lease_writable(lease));
    UNTIL(stk_lease_writable(lease) == STK_OK);
    IS(STK_OK, stk_lease_release(lease));
    IS(STK_STALE_LEASE, stk_lease_writable(lease));
    host_down(h);
}

int main(int argc, char **argv)
{
    static const test tests[] = {
        TEST(closed_descriptors),
        TEST(calls_from_the_last_destructors),
        TEST(calls_at_exit),
        TEST(tables_that_are_wrong_in_the_copy),
        TEST(a_kill_during_a_stop),
        TEST(stack_of_a_c_program),
        TEST(what_was_printed_is_written),
        TEST(whose_words_the_caller_reads),
        TEST(arguments_without_a_client),
        TEST(writing_again),
    };
    stk_app apps[] = {{.struct_size = sizeof(stk_app), .name = "t", .call = app}};
    if (getenv("STK_TEST_WRONG_TABLE")) apps[0].struct_size = 0;
    stk_error *e = NULL;
    if (stk_init(apps, 1, NULL, &e)) return stk_error_print(e);
    return run_tests(tests, COUNT(tests), argc, argv);
}
