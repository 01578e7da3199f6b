/* Calls that another thread cancels: who waits has its outcome, the app is told, by a word and by a signal, and the handle
 * tells when it has really let go. */
#include "check.h"

#include <pthread.h>

static int64_t told, interrupted;
static volatile sig_atomic_t signals;

static void count(int number)
{
    (void)number;
    signals = signals + 1;
}

static stk_status app(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    int64_t n = 0;
    (void)user;
    if (stk_call_i64(call, 0, &n)) return STK_BAD_REQUEST;
    if (called(call, "i64")) return stk_reply_i64(reply, n);
    if (called(call, "told")) return stk_reply_i64(reply, told);
    if (called(call, "interrupted")) return stk_reply_i64(reply, interrupted);
    if (called(call, "sleep")) return sleep_ms(n), stk_reply_i64(reply, n);
    if (called(call, "heed")) {
        if (has_begun("heeds")) return STK_APP;
        if (!stk_call_wait_cancelled(call, 1) && stk_call_wait_cancelled(call, 600000) && stk_call_is_cancelled(call)) told++;
        return stk_reply_i64(reply, n);
    }
    if (called(call, "block")) {
        const struct sigaction action = {.sa_handler = count};
        const struct timespec time = {600, 0};
        sigaction(SIGUSR1, &action, NULL);
        if (has_begun("blocks")) return STK_APP;
        if (nanosleep(&time, NULL) == -1 && errno == EINTR && signals == 1 && stk_call_is_cancelled(call)) interrupted++;
        return stk_reply_i64(reply, n);
    }
    return stk_call_no_action(call);
}

static stk_pending *submit(host h, const char *action)
{
    stk_pending *pending = NULL;
    stk_error *e = NULL;
    stk_args *args = stk_args_new(h.client);
    stk_args_push_i64(args, 7);
    WORKS(stk_submit(h.client, STK_STR("t"), S(action), args, NULL, &pending, &e));
    return pending;
}

static stk_canceller *canceller_of(stk_pending *pending)
{
    stk_canceller *canceller = NULL;
    stk_error *e = NULL;
    WORKS(stk_pending_canceller(pending, &canceller, &e));
    return canceller;
}

static void *waits(void *pending)
{
    stk_error *e = NULL;
    stk_result *result = NULL;
    FAILS(STK_CANCELLED, "through a handle", stk_pending_wait(pending, STK_FOREVER, &result, &e));
    CHECK(result == NULL);
    return NULL;
}

/* Waits for it in another thread, and cancels it in this one. */
static void cancel_while_waited_for(stk_pending *pending, stk_canceller *canceller)
{
    pthread_t thread;
    stk_error *e = NULL;
    NEED(pthread_create(&thread, NULL, waits, pending) == 0);
    sleep_ms(50);
    WORKS(stk_canceller_cancel(canceller, &e));
    WORKS(stk_canceller_cancel(canceller, &e));
    NEED(pthread_join(thread, NULL) == 0);
    stk_pending_free(pending);
}

static void queued_and_running(void)
{
    host h = host_up(workers(1));
    stk_error *e = NULL;
    stk_pending *running = submit(h, "heed");
    stk_canceller *of_running = canceller_of(running);
    stk_pending *queued = submit(h, "i64");
    stk_canceller *of_queued = canceller_of(queued);
    UNTIL(unlink("heeds") == 0);
    IS(STK_PENDING, stk_canceller_wait(of_running, 20, &e));
    IS(STK_PENDING, stk_canceller_wait(of_queued, 0, &e));
    CHECK(e == NULL);
    cancel_while_waited_for(queued, of_queued);
    WORKS(stk_canceller_wait(of_queued, 0, &e));
    cancel_while_waited_for(running, of_running);
    WORKS(stk_canceller_wait(of_running, STK_FOREVER, &e));
    CHECK(ask(h.client, "told", 0) == 1);
    stk_canceller_free(of_queued);
    stk_canceller_free(of_running);
    host_down(h);
}

static void ended(void)
{
    host h = host_up(workers(1));
    stk_error *e = NULL;
    stk_result *result = NULL;
    stk_pending *pending = submit(h, "i64");
    stk_canceller *early = canceller_of(pending);
    WORKS(stk_pending_wait(pending, STK_FOREVER, &result, &e));
    stk_canceller *late = canceller_of(pending);
    for (int twice = 0; twice < 2; twice++) {
        WORKS(stk_canceller_cancel(early, &e));
        WORKS(stk_canceller_cancel(late, &e));
        WORKS(stk_canceller_wait(early, 0, &e));
        WORKS(stk_canceller_wait(late, 0, &e));
        stk_result_free(result), result = NULL;
    }
    stk_pending *next = submit(h, "i64");
    WORKS(stk_canceller_cancel(early, &e));
    WORKS(stk_pending_wait(next, STK_FOREVER, NULL, &e));
    stk_pending_free(next);
    stk_pending_free(pending);
    stk_canceller_free(early);
    stk_canceller_free(late);
    host_down(h);
}

static void the_signal_ends_a_system_call(void)
{
    stk_config *config = workers(1);
    IS(STK_OK, stk_config_set_cancel_signal(config, SIGUSR1));
    IS(STK_OK, stk_config_set_cancel_grace_ms(config, 100));
    IS(STK_OK, stk_config_set_signal_grace_ms(config, 600000));
    host h = host_up(config);
    stk_error *e = NULL;
    stk_pending *pending = submit(h, "block");
    stk_canceller *canceller = canceller_of(pending);
    UNTIL(unlink("blocks") == 0);
    IS(STK_PENDING, stk_canceller_wait(canceller, 200, &e)); /* asleep by now: a signal before that would end nothing */
    cancel_while_waited_for(pending, canceller);
    WORKS(stk_canceller_wait(canceller, 30000, &e));
    CHECK(ask(h.client, "interrupted", 0) == 1);
    stk_canceller_free(canceller);
    host_down(h);
}

static void a_signal_that_nobody_can_handle(void)
{
    stk_config *config = workers(1);
    stk_pool *pool = NULL;
    stk_error *e = NULL;
    IS(STK_OK, stk_config_set_cancel_signal(config, SIGKILL));
    FAILS(STK_CONFIG, "signal 9", stk_pool_start(config, &pool, &e));
    CHECK(pool == NULL);
}

static void nothing(void)
{
    stk_canceller *canceller = NULL;
    stk_error *e = NULL;
    FAILS(STK_INVALID, "NULL", stk_pending_canceller(NULL, &canceller, &e));
    FAILS(STK_INVALID, "NULL", stk_canceller_cancel(NULL, &e));
    FAILS(STK_INVALID, "NULL", stk_canceller_wait(NULL, 0, &e));
    CHECK(stk_call_wait_cancelled(NULL, 600000) && stk_call_is_cancelled(NULL));
    stk_canceller_free(NULL);
}

int main(int argc, char **argv)
{
    static const stk_app apps[] = {{.struct_size = sizeof(stk_app), .name = "t", .call = app}};
    static const test tests[] = {
        TEST(queued_and_running),
        TEST(ended),
        TEST(the_signal_ends_a_system_call),
        TEST(a_signal_that_nobody_can_handle),
        TEST(nothing),
    };
    stk_error *e = NULL;
    if (stk_init(apps, 1, NULL, &e)) return stk_error_print(e);
    return run_tests(tests, COUNT(tests), argc, argv);
}
