/* Each way in which a call can end is one status with an error that says what is known of it. */
#include "check.h"

#include <fcntl.h>
#include <sys/mman.h>

static stk_status app(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    int64_t n = 0;
    stk_str text;
    (void)user;
    if (called(call, "segfault")) {
        volatile char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        page[0] = 1; /* not through NULL: a sanitizer of the compiler's would step in before the processor does */
    }
    if (called(call, "abort")) abort();
    if (called(call, "exit")) return stk_call_i64(call, 0, &n) ? STK_BAD_REQUEST : (_exit((int)n), STK_OK);
    if (called(call, "exit_with_handlers")) exit(0);
    if (called(call, "sleep")) return stk_call_i64(call, 0, &n) ? STK_BAD_REQUEST : (sleep_ms(n), STK_OK);
    if (called(call, "doze")) { /* and says when it has begun */
        const int fd = open("dozing", O_CREAT | O_EXCL, 0600);
        return fd < 0 ? STK_APP : (close(fd), sleep_ms(600000), STK_OK);
    }
    if (called(call, "nap")) { /* looks up from its work */
        while (!stk_call_check_deadline(call)) sleep_ms(1);
        return stk_call_check_deadline(call);
    }
    if (called(call, "fail")) return stk_reply_fail(reply, STK_STR("OutOfCoal"), STK_STR("the bunker \xe2\x98\x83 is empty"));
    if (called(call, "fail_zero")) return stk_reply_fail(reply, STK_STR("a\0b"), STK_STR("c\0d"));
    if (called(call, "fail_late")) {
        stk_reply_i64(reply, 1);
        return stk_reply_fail(reply, STK_STR("Late"), STK_STR("after an answer"));
    }
    if (called(call, "fail_ok")) return stk_reply_fail(reply, STK_STR("Kept"), STK_STR("said, and then STK_OK")), STK_OK;
    if (called(call, "status")) return stk_call_i64(call, 0, &n) ? STK_BAD_REQUEST : (stk_status)n;
    if (called(call, "i64")) return stk_call_i64(call, 0, &n) ? STK_BAD_REQUEST : stk_reply_i64(reply, n);
    if (called(call, "two")) {
        if (stk_call_i64(call, 0, &n) || stk_call_str(call, 1, &text)) return STK_BAD_REQUEST;
        return stk_reply_i64(reply, n + (int64_t)text.len);
    }
    if (called(call, "pid")) return stk_reply_i64(reply, getpid());
    if (called(call, "deadline")) return stk_reply_bool(reply, stk_call_deadline_ns(call) != 0);
    if (called(call, "once")) { /* dies the first time only */
        int fd = open("once", O_CREAT | O_EXCL, 0600);
        if (fd >= 0) abort();
        return stk_reply_i64(reply, 7);
    }
    if (called(call, "value")) return stk_call_i64(call, 9, &n), STK_VALUE;
    return stk_call_no_action(call);
}

static void every_accessor_of_nothing(void)
{
    int32_t detail = 5;
    uint64_t limit = 5;
    CHECK(stk_error_status(NULL) == STK_OK);
    CHECK(strcmp(stk_error_message(NULL), "") == 0 && strcmp(stk_error_class(NULL), "") == 0);
    CHECK(strcmp(stk_error_traceback(NULL), "") == 0);
    CHECK(stk_error_started(NULL) == -1 && stk_error_worker_pid(NULL) == 0 && stk_error_errno(NULL) == 0);
    CHECK(stk_error_cause(NULL, &detail) == STK_CAUSE_UNKNOWN && detail == 0);
    CHECK(stk_error_bound(NULL, &limit) == STK_BOUND_UNKNOWN && limit == 0);
    CHECK(stk_error_limit(NULL) == STK_LIMIT_UNKNOWN && stk_error_cancelled_by(NULL) == STK_BY_UNKNOWN);
    CHECK(stk_error_stalled_ms(NULL) == 0);
    uint32_t pid = 1;
    uint16_t life = 1;
    CHECK(strcmp(stk_error_source(NULL, &pid, &life), "") == 0 && pid == 0 && life == 0);
    CHECK(stk_error_relay_count(NULL) == 0 && strcmp(stk_error_relay(NULL, 0, NULL, NULL), "") == 0);
    CHECK(stk_error_print(NULL) == 1);
}

/* A worker's death: cause, detail, pid, that it had begun, and that the next call is another worker's. */
static void dies(const char *action, int64_t n, uint32_t cause, int32_t number)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    uint32_t pid = 0, now[2] = {0};
    size_t found = 0;
    int32_t detail = -1;
    char word[32];
    IS(STK_OK, stk_client_worker_pids(h.client, &pid, 1, &found));
    CHECK(found == 1 && pid > 0 && (int64_t)pid == ask(h.client, "pid", 0));
    IS(STK_WORKER_DIED, run_i64(h.client, action, n, NULL, &e));
    NEED(e != NULL);
    CHECK(stk_error_status(e) == STK_WORKER_DIED);
    CHECK(stk_error_started(e) == 1);
    CHECK(stk_error_cause(e, &detail) == cause && detail == number);
    CHECK(stk_error_cause(e, NULL) == cause);
    snprintf(word, sizeof word, "%s %d", cause == STK_CAUSE_SIGNAL ? "signal" : "status", number);
    if (!strstr(stk_error_message(e), word)) CHECK(!"the cause is in the message"), stk_error_print(e);
    CHECK(stk_error_worker_pid(e) == pid);
    CHECK(strcmp(stk_error_class(e), "") == 0 && stk_error_errno(e) == 0);
    CHECK(stk_error_bound(e, NULL) == STK_BOUND_UNKNOWN);
    CHECK(ask(h.client, "i64", 9) == 9); /* waits for the replacement */
    IS(STK_OK, stk_client_worker_pids(h.client, now, 2, &found));
    CHECK(found == 1 && now[0] != pid && (int64_t)now[0] == ask(h.client, "pid", 0));
    host_down(h);
    CHECK(stk_error_worker_pid(e) == pid); /* an error outlives everything */
    stk_error_free(e);
}

static void a_segfault(void) { dies("segfault", 0, STK_CAUSE_SIGNAL, SIGSEGV); }
static void an_abort(void) { dies("abort", 0, STK_CAUSE_SIGNAL, SIGABRT); }
static void an_exit_with_0(void) { dies("exit", 0, STK_CAUSE_EXIT, 0); }
static void an_exit_with_3(void) { dies("exit", 3, STK_CAUSE_EXIT, 3); }

/* Handlers of exit run in the dying worker; whatever they find, the caller hears of a death. */
static void an_exit_with_handlers(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    FAILS(STK_WORKER_DIED, "", run(h.client, "exit_with_handlers", NULL, NULL, &e));
    CHECK(ask(h.client, "i64", 9) == 9);
    host_down(h);
}

static stk_status run_for(host h, const char *action, int64_t n, uint64_t deadline_ms, stk_error **e)
{
    const stk_options options = {.struct_size = sizeof options, .deadline_ms = deadline_ms};
    stk_args *args = stk_args_new(h.client);
    stk_args_push_i64(args, n);
    return stk_execute(h.client, STK_STR("t"), S(action), args, &options, NULL, e);
}

/* Has a worker begun with ten minutes of sleep when the deadline passes. How long it takes to begin is the machine's, and the
 * tool's that this runs under: one that passes before is said to have, leaves nothing behind, and a longer one is tried. */
static stk_status put_to_sleep(host h, stk_error **e)
{
    stk_status status = STK_OK;
    for (uint64_t deadline_ms = 50; deadline_ms < 60000; deadline_ms *= 2) {
        stk_error_free(*e), *e = NULL;
        status = run_for(h, "sleep", 600000, deadline_ms, e);
        if (status != STK_DEADLINE || stk_error_started(*e) != 0) break;
    }
    return status;
}

static void a_deadline_tells_whether_it_had_begun(void)
{
    stk_config *config = workers(1);
    stk_config_set_kill_grace_ms(config, 600000);
    host h = host_up(config);
    stk_error *e = NULL;
    IS(STK_DEADLINE, put_to_sleep(h, &e));
    CHECK(stk_error_started(e) == 1 && stk_error_worker_pid(e) == 0);
    CHECK(stk_error_limit(e) == STK_LIMIT_CALL && stk_error_cancelled_by(e) == STK_BY_UNKNOWN);
    CHECK(strstr(stk_error_message(e), "deadline"));
    stk_error_free(e), e = NULL;
    IS(STK_OK, stk_pool_kill(h.pool, &e)); /* it would be replaced soon, and what comes next would run */
    host_down(h);

    h = host_up(workers(1));
    stk_pending *running = NULL;
    WORKS(stk_submit(h.client, STK_STR("t"), STK_STR("doze"), NULL, NULL, &running, &e));
    UNTIL(unlink("dozing") == 0); /* the only worker is busy from now on */
    IS(STK_DEADLINE, run_for(h, "i64", 1, 50, &e));
    CHECK(stk_error_started(e) == 0);
    stk_error_free(e), e = NULL;
    const stk_options options = {.struct_size = sizeof options, .queue_ms = 50};
    IS(STK_DEADLINE, stk_execute(h.client, STK_STR("t"), STK_STR("i64"), NULL, &options, NULL, &e));
    CHECK(stk_error_started(e) == 0 && stk_error_limit(e) == STK_LIMIT_QUEUE);
    stk_error_free(e), e = NULL;
    IS(STK_PENDING, stk_pending_wait(running, 0, NULL, &e));
    stk_pending_free(running);
    IS(STK_OK, stk_pool_kill(h.pool, &e));
    host_down(h);
}

static void a_worker_that_does_not_let_go_is_replaced(void)
{
    stk_config *config = workers(1);
    stk_config_set_kill_grace_ms(config, 10);
    host h = host_up(config);
    stk_error *e = NULL;
    const int64_t before = ask(h.client, "pid", 0);
    FAILS(STK_DEADLINE, "", put_to_sleep(h, &e));
    CHECK(ask(h.client, "i64", 3) == 3);
    CHECK(ask(h.client, "pid", 0) != before);
    host_down(h);
}

static void an_app_sees_its_deadline(void)
{
    stk_config *config = workers(1); /* with all the time to see it, on a slow machine as well: the signal is never sent */
    stk_config_set_cancel_signal(config, SIGUSR1);
    stk_config_set_cancel_grace_ms(config, 600000);
    host h = host_up(config);
    stk_error *e = NULL;
    stk_result *result = NULL;
    bool has = true;
    const int64_t before = ask(h.client, "pid", 0);
    FAILS(STK_DEADLINE, "", run_for(h, "nap", 0, 30, &e));
    CHECK(ask(h.client, "pid", 0) == before); /* it let go by itself */
    const stk_options longest = {.struct_size = sizeof longest, .deadline_ms = UINT64_MAX};
    WORKS(stk_execute(h.client, STK_STR("t"), STK_STR("pid"), NULL, &longest, NULL, &e)); /* no sum overflows */
    const stk_options options = {.struct_size = sizeof options, .deadline_ms = 60000};
    WORKS(stk_execute(h.client, STK_STR("t"), STK_STR("deadline"), NULL, &options, &result, &e));
    CHECK(stk_result_bool(result, &has) == STK_OK && has);
    stk_result_free(result);
    host_down(h);

    config = workers(1);
    stk_config_set_timeout_ms(config, 0);
    h = host_up(config);
    WORKS(stk_execute(h.client, STK_STR("t"), STK_STR("deadline"), NULL, NULL, &result, &e));
    CHECK(stk_result_bool(result, &has) == STK_OK && !has);
    stk_result_free(result);
    host_down(h);

    config = workers(1);
    stk_config_set_timeout_ms(config, 40); /* the pool's own holds, too */
    h = host_up(config);
    FAILS(STK_DEADLINE, "", run(h.client, "nap", NULL, NULL, &e));
    host_down(h);
}

static void what_nobody_knows_is_a_bad_request(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    char name[400];
    memset(name, 'x', sizeof name);
    FAILS(STK_BAD_REQUEST, "nope", stk_execute(h.client, STK_STR("nope"), STK_STR("add"), NULL, NULL, NULL, &e));
    FAILS(STK_BAD_REQUEST, "", stk_execute(h.client, STK_STR(""), STK_STR("add"), NULL, NULL, NULL, &e));
    FAILS(STK_BAD_REQUEST, "255", stk_execute(h.client, STK_STR("t"), (stk_str){name, 256}, NULL, NULL, NULL, &e));
    FAILS(STK_BAD_REQUEST, "", stk_execute(h.client, (stk_str){name, 256}, STK_STR("i64"), NULL, NULL, NULL, &e));
    FAILS(STK_BAD_REQUEST, "xxx", stk_execute(h.client, STK_STR("t"), (stk_str){name, 255}, NULL, NULL, NULL, &e));
    FAILS(STK_BAD_REQUEST, "no_such", run(h.client, "no_such", NULL, NULL, &e));
    FAILS(STK_BAD_REQUEST, "", run(h.client, "", NULL, NULL, &e));
    CHECK(ask(h.client, "i64", 4) == 4);
    host_down(h);
}

static void wrong_arguments_are_named(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_args *args;
    FAILS(STK_BAD_REQUEST, "index 0 is missing, 0 given", run(h.client, "two", NULL, NULL, &e));
    FAILS(STK_BAD_REQUEST, "index 1 is missing, 1 given", run_i64(h.client, "two", 1, NULL, &e));
    args = stk_args_new(h.client), stk_args_push_f64(args, 1.5);
    FAILS(STK_BAD_REQUEST, "index 0: ", run(h.client, "two", args, NULL, &e));
    args = stk_args_new(h.client), stk_args_push_i64(args, 1), stk_args_push_i64(args, 1);
    FAILS(STK_BAD_REQUEST, "index 1: ", run(h.client, "two", args, NULL, &e));
    FAILS(STK_BAD_REQUEST, "index 9 is missing", run_i64(h.client, "value", 1, NULL, &e));
    host_down(h);
}

static void an_app_error_has_its_words(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    const int64_t pid = ask(h.client, "pid", 0);
    IS(STK_APP, run(h.client, "fail", NULL, NULL, &e));
    CHECK(strcmp(stk_error_class(e), "OutOfCoal") == 0);
    CHECK(strstr(stk_error_message(e), "the bunker \xe2\x98\x83 is empty") != NULL);
    uint32_t from = 0;
    uint16_t life = 0;
    CHECK(strcmp(stk_error_source(e, &from, &life), "t") == 0 && from == pid && life != 0);
    CHECK(strcmp(stk_error_source(e, NULL, NULL), "t") == 0);
    CHECK(stk_error_relay_count(e) == 0 && strcmp(stk_error_relay(e, 0, &from, &life), "") == 0 && from == 0 && life == 0);
    CHECK(stk_error_worker_pid(e) == 0 && stk_error_cause(e, NULL) == STK_CAUSE_UNKNOWN);
    stk_error_free(e), e = NULL;
    IS(STK_APP, run(h.client, "fail_zero", NULL, NULL, &e)); /* zero bytes do not cut it short */
    CHECK(strcmp(stk_error_class(e), "a\xef\xbf\xbd" "b") == 0 && strstr(stk_error_message(e), "c\xef\xbf\xbd" "d"));
    stk_error_free(e), e = NULL;
    FAILS(STK_APP, "after an answer", run(h.client, "fail_late", NULL, NULL, &e));
    FAILS(STK_APP, "said, and then", run(h.client, "fail_ok", NULL, NULL, &e));
    IS(STK_APP, run_i64(h.client, "status", STK_APP, NULL, &e));
    CHECK(strcmp(stk_error_class(e), "STK_APP") == 0);
    stk_error_free(e), e = NULL;
    IS(STK_APP, run_i64(h.client, "status", 12345, NULL, &e));
    CHECK(strcmp(stk_error_class(e), "unknown status") == 0 && strstr(stk_error_message(e), "12345"));
    stk_error_free(e), e = NULL;
    FAILS(STK_BAD_REQUEST, "status returned STK_BAD_REQUEST", run_i64(h.client, "status", STK_BAD_REQUEST, NULL, &e));
    IS(STK_APP, run(h.client, "fail", NULL, NULL, NULL)); /* nobody wants the error */
    CHECK(ask(h.client, "pid", 0) == pid);
    host_down(h);
}

static void sixty_four_results_held(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_result *held[64], *more;
    uint64_t limit = 0;
    for (int i = 0; i < 64; i++) WORKS(run_i64(h.client, "i64", i, &held[i], &e));
    IS(STK_OVERLOADED, run_i64(h.client, "i64", 64, &more, &e));
    CHECK(stk_error_bound(e, &limit) == STK_BOUND_CALLS && limit == 64);
    CHECK(stk_error_bound(e, NULL) == STK_BOUND_CALLS && stk_error_started(e) <= 0);
    stk_error_free(e), e = NULL;
    stk_result_free(held[17]);
    WORKS(run_i64(h.client, "i64", 64, &held[17], &e));
    FAILS(STK_OVERLOADED, "64", run_i64(h.client, "i64", 65, &more, &e));
    for (int64_t i = 0, n = -1; i < 64; i++) {
        CHECK(stk_result_i64(held[i], &n) == STK_OK && n == (i == 17 ? 64 : i));
        stk_result_free(held[i]);
    }
    for (int i = 0; i < 200; i++) WORKS(run_i64(h.client, "i64", i, NULL, &e)); /* let go of at once */
    host_down(h);
}

static void an_idempotent_call_is_sent_again(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_result *result;
    int64_t n = 0;
    const stk_options options = {.struct_size = sizeof options, .idempotent = 1};
    FAILS(STK_WORKER_DIED, "signal 6", run(h.client, "once", NULL, NULL, &e));
    NEED(unlink("once") == 0);
    WORKS(stk_execute(h.client, STK_STR("t"), STK_STR("once"), NULL, &options, &result, &e));
    CHECK(stk_result_i64(result, &n) == STK_OK && n == 7 && stk_result_worker(result) >= 3);
    stk_result_free(result);
    NEED(unlink("once") == 0);
    FAILS(STK_WORKER_DIED, "signal 6", stk_execute(h.client, STK_STR("t"), STK_STR("abort"), NULL, &options, NULL, &e));
    host_down(h);
}

static void a_degraded_pool_has_no_workers(void)
{
    stk_config *config = workers(1);
    stk_config_set_restart_limit(config, 0, 60000);
    stk_config_set_backoff_ms(config, 600000, 600000);
    host h = host_up(config);
    stk_error *e = NULL;
    stk_status status = STK_OK;
    for (int deaths = 0; deaths < 10 && status != STK_NO_WORKERS; deaths++) { /* the first may count as of old age */
        stk_error_free(e), e = NULL;
        status = run(h.client, "abort", NULL, NULL, &e);
        CHECK(status == STK_WORKER_DIED || (status == STK_NO_WORKERS && deaths > 0));
    }
    IS(STK_NO_WORKERS, status);
    CHECK(stk_error_started(e) == 0 && strstr(stk_error_message(e), "degraded"));
    stk_error_free(e);
    host_down(h);
}

int main(int argc, char **argv)
{
    static const stk_app apps[] = {{.struct_size = sizeof(stk_app), .name = "t", .call = app}};
    static const test tests[] = {
        TEST(every_accessor_of_nothing),
        TEST(a_segfault),
        TEST(an_abort),
        TEST(an_exit_with_0),
        TEST(an_exit_with_3),
        TEST(an_exit_with_handlers),
        TEST(a_deadline_tells_whether_it_had_begun),
        TEST(a_worker_that_does_not_let_go_is_replaced),
        TEST(an_app_sees_its_deadline),
        TEST(what_nobody_knows_is_a_bad_request),
        TEST(wrong_arguments_are_named),
        TEST(an_app_error_has_its_words),
        TEST(sixty_four_results_held),
        TEST(an_idempotent_call_is_sent_again),
        TEST(a_degraded_pool_has_no_workers),
    };
    stk_error *e = NULL;
    if (stk_init(apps, 1, NULL, &e)) return stk_error_print(e);
    return run_tests(tests, COUNT(tests), argc, argv);
}
