/* What the library calls back: the log callback, and the functions of an app. */
#include "check.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

/* --- the log callback --- */

static _Atomic int messages[STK_LOG_TRACE + 1];
static _Atomic bool odd; /* a message that no callback should get */
/* What the next callback of this process does, and what came of it. */
static _Atomic int probe;
static _Atomic uint32_t probed[16];
static _Atomic int probes_done;
static host probed_host;
static stk_result *probed_result;
static stk_lease probed_lease;

static void probe_refused(void)
{
    stk_client *client = NULL;
    stk_pool *pool = NULL;
    stk_result *result = NULL;
    stk_lease lease;
    int32_t fd = -1;
    stk_error *e = NULL;
    probed[0] = run(probed_host.client, "i64", NULL, &result, &e);
    probed[8] = e && stk_error_status(e) == STK_REENTRANT && strstr(stk_error_message(e), "log callback") ? 1 : 0;
    stk_error_free(e);
    probed[1] = stk_pool_start(stk_config_new(), &pool, NULL);
    probed[2] = stk_client_new(probed_host.pool, &client, NULL);
    probed[3] = stk_pool_client_fd(probed_host.pool, &fd, NULL);
    probed[4] = stk_lease_new(probed_host.client, 10, &lease, NULL);
    probed[5] = stk_pool_stop(probed_host.pool, NULL);
    probed[6] = stk_pool_kill(probed_host.pool, NULL);
    probed[7] = stk_init(NULL, 0, NULL, NULL);
    probed[9] = stk_client_connect(0, 0, &client, NULL);
}

static void probe_allowed(void)
{
    stk_value value;
    int64_t n = 0;
    stk_args *args = stk_args_new(probed_host.client);
    probed[0] = stk_result_i64(probed_result, &n);
    probed[1] = stk_result_value(probed_result, &value);
    probed[2] = stk_value_i64(&value, &n);
    probed[3] = stk_args_push_i64(args, n);
    stk_args_free(args);
    probed[4] = stk_lease_release(probed_lease);
    stk_config_free(stk_config_new());
    stk_error_free(stk_error_new(STK_STR("a"), STK_STR("b")));
    stk_result_free(probed_result);
    probed[5] = stk_version() ? STK_OK : STK_APP;
}

/* Of the context that this worker is in. */
static const stk_call *probed_call;
static stk_reply *probed_reply;
static stk_sink *probed_sink;
static stk_inbox *probed_inbox;
static stk_deferred *probed_deferred;

static void probe_refused_in_a_call(void)
{
    stk_sink *sink = NULL;
    stk_inbox *inbox = NULL;
    stk_result *item = NULL;
    stk_lease lease;
    probed[0] = stk_call_sink(probed_call, NULL, &sink);
    probed[1] = stk_call_started(probed_call, probed_reply, &sink, &inbox);
    probed[2] = stk_call_lease(probed_call, 10, &lease);
    if (!probed_sink) return;
    probed[3] = stk_sink_send(probed_sink);
    probed[4] = stk_sink_finish(probed_sink);
    probed[5] = stk_inbox_next(probed_inbox, 0, &item);
}

static void probe_refused_later(void)
{
    stk_lease lease;
    probed[0] = stk_deferred_lease(probed_deferred, 10, &lease);
}

static _Atomic bool in_the_host;

static void touch(const char *name)
{
    const int fd = open(name, O_CREAT | O_WRONLY, 0600);
    if (fd >= 0) close(fd);
}

static void on_message(uintptr_t user, uint32_t level, stk_str target, stk_str message)
{
    if (user != 4711 || level < STK_LOG_ERROR || level > STK_LOG_TRACE) odd = true;
    if (target.len == 0 || message.len == 0 || memchr(message.data, '\n', message.len)) odd = true;
    if (level <= STK_LOG_TRACE) messages[level]++;
    if (level > STK_LOG_WARN) touch("level"); /* in whatever process: a file that is left fails the run */
    if (!in_the_host && access("listen", F_OK) == 0) touch("heard");
    const int what = atomic_exchange(&probe, 0);
    if (what == 1) probe_refused(), probes_done++;
    if (what == 2) probe_allowed(), probes_done++;
    if (what == 3) probe_refused_in_a_call(), probes_done++;
    if (what == 4) probe_refused_later(), probes_done++;
}

/* --- the app --- */

static _Atomic int inits, calls;
static int instance_data;

static stk_status init_app(uintptr_t user, uintptr_t *instance, stk_error **error)
{
    (void)error;
    inits++;
    if (user != 42) return STK_APP;
    instance_data = 100;
    *instance = (uintptr_t)&instance_data;
    return STK_OK;
}

static void close_app(uintptr_t instance)
{
    char name[64]; /* who closed, for the host to count */
    if (instance != (uintptr_t)&instance_data) return;
    snprintf(name, sizeof name, "closed-%d", (int)getpid());
    touch(name);
}

/* The library, called from inside of a call: a status each, none waits. */
static stk_status from_inside(const stk_call *call, stk_reply *reply)
{
    stk_pool *pool = NULL;
    stk_client *client = NULL;
    stk_error *e = NULL;
    int64_t n = 0;
    (void)call;
    if (stk_init(NULL, 0, NULL, &e) != STK_CONFIG) return say(reply, false, "stk_init");
    stk_error_free(e), e = NULL;
    const stk_status status = stk_pool_start(NULL, &pool, &e);
    if (status != STK_CONFIG || pool) return say(reply, false, "stk_pool_start");
    stk_error_free(e), e = NULL;
    if (stk_pool_start(stk_config_new(), &pool, &e) != STK_CONFIG) return say(reply, false, "stk_pool_start again");
    stk_error_free(e), e = NULL;
    if (stk_execute(NULL, STK_STR("t"), STK_STR("i64"), NULL, NULL, NULL, &e) != STK_INVALID) return say(reply, false, "execute");
    stk_error_free(e);
    if (stk_client_connect(999, 0, &client, NULL) != STK_OS) return say(reply, false, "stk_client_connect");
    return n == 0 ? stk_reply_i64(reply, 1) : STK_APP;
}

/* A pool of a worker's own: its helper is this program. */
static stk_status pool_inside(const stk_call *call, stk_reply *reply)
{
    stk_pool *pool = NULL;
    stk_client *client = NULL;
    stk_error *e = NULL;
    stk_str path;
    int64_t answer = -1;
    if (stk_call_str(call, 0, &path)) return STK_BAD_REQUEST;
    stk_config *config = stk_config_new();
    stk_config_set_helper(config, path);
    stk_config_add_app(config, STK_STR("t"));
    stk_status status = stk_pool_start(config, &pool, &e);
    if (!status) status = stk_client_new(pool, &client, &e);
    if (!status) answer = ask(client, "i64", 77);
    if (status) stk_reply_fail(reply, STK_STR("Inner"), S(stk_error_message(e)));
    stk_client_free(client), stk_pool_free(pool), stk_error_free(e);
    return status ? STK_APP : stk_reply_i64(reply, answer);
}

/* Has the library speak on this thread: no object lies there, and it says so. */
static void speak(void) { stk_sender_free((stk_sender *)1); }

/* Of so many things that the callback does when the library speaks, how many were refused. */
static int refused(int what, int n)
{
    int refused = 0;
    for (int i = 0; i < n; i++) probed[i] = STK_OK;
    probe = what;
    speak();
    for (int i = 0; i < n && !probe; i++) refused += probed[i] == STK_REENTRANT;
    return refused;
}

/* Before and in a context, whose opener has sent 5: what was refused has changed nothing. */
static stk_status context(const stk_call *call, stk_reply *reply)
{
    stk_sink *sink = NULL;
    stk_inbox *inbox = NULL;
    stk_result *item = NULL;
    stk_status status;
    int64_t n = 0;
    probed_call = call, probed_reply = reply, probed_sink = NULL;
    if ((status = stk_reply_i64(reply, 3))) return status;
    if (refused(3, 3) != 3) return say(reply, false, "before the start");
    if ((status = stk_call_started(call, reply, &sink, &inbox))) return status;
    probed_sink = sink, probed_inbox = inbox;
    if ((status = stk_reply_i64(stk_sink_item(sink), 4))) return status;
    if (refused(3, 6) != 6) return say(reply, false, "in the context");
    if ((status = stk_sink_send(sink)) || (status = stk_inbox_next(inbox, STK_FOREVER, &item))) return status;
    return stk_result_i64(item, &n) ? STK_BAD_REQUEST : stk_reply_i64(reply, n);
}

static void deferred(uintptr_t user, stk_deferred *later)
{
    (void)user;
    probed_deferred = later;
    stk_reply_i64(stk_deferred_reply(later), refused(4, 1));
    stk_deferred_answer(later, STK_OK);
}

static stk_status app(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    int64_t n = 0;
    calls++;
    if (called(call, "deferred")) return stk_call_defer(call, reply, 0, deferred);
    if (called(call, "context")) return context(call, reply);
    if (called(call, "user")) return stk_reply_bool(reply, user == (uintptr_t)&instance_data && instance_data >= 100);
    if (called(call, "inits")) return stk_reply_i64(reply, inits);
    if (called(call, "calls")) return stk_reply_i64(reply, calls);
    if (called(call, "i64")) return stk_call_i64(call, 0, &n) ? STK_BAD_REQUEST : stk_reply_i64(reply, n);
    if (called(call, "inside")) return from_inside(call, reply);
    if (called(call, "pool_inside")) return pool_inside(call, reply);
    if (called(call, "abort")) abort();
    if (called(call, "messages")) return stk_reply_bool(reply, !odd);
    return stk_call_no_action(call);
}

/* Without an init: `user` is what the table says. */
static stk_status plain(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    (void)call;
    return stk_reply_i64(reply, (int64_t)user);
}

static int closed_files(bool remove)
{
    int n = 0;
    char line[256];
    FILE *list = popen("ls -d closed-* 2>/dev/null", "r");
    NEED(list != NULL);
    while (fgets(line, sizeof line, list)) {
        line[strcspn(line, "\n")] = 0;
        n++;
        if (remove) unlink(line);
    }
    pclose(list);
    return n;
}

static int64_t ask_app(stk_client *client, const char *name)
{
    stk_result *result = NULL;
    stk_error *e = NULL;
    int64_t n = -1;
    WORKS(stk_execute(client, S(name), STK_STR("x"), NULL, NULL, &result, &e));
    IS(STK_OK, stk_result_i64(result, &n));
    stk_result_free(result);
    return n;
}

static void users_and_instances(void)
{
    host h = host_up(workers(2));
    stk_error *e = NULL;
    for (int i = 0; i < 50; i++) {
        stk_result *result = NULL;
        bool good = false;
        WORKS(run(h.client, "user", NULL, &result, &e));
        CHECK(stk_result_bool(result, &good) == STK_OK && good);
        stk_result_free(result);
        CHECK(ask(h.client, "inits", 0) == 1); /* in each worker, once */
    }
    CHECK(ask_app(h.client, "plain") == 12345);
    CHECK(ask_app(h.client, "zero") == 0);
    FAILS(STK_WORKER_DIED, "signal 6", run(h.client, "abort", NULL, NULL, &e));
    for (int i = 0; i < 20; i++) CHECK(ask(h.client, "inits", 0) == 1);
    size_t ready = 0;
    UNTIL(stk_client_worker_pids(h.client, NULL, 0, &ready) == STK_OK && ready == 2);
    CHECK(closed_files(true) == 0);
    WORKS(stk_pool_stop(h.pool, &e));
    CHECK(closed_files(true) == 2); /* by each worker that left in an orderly way, once */
    host_down(h);
}

static void the_library_from_inside_of_a_call(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    for (int i = 0; i < 3; i++) WORKS(run(h.client, "inside", NULL, NULL, &e));
    host_down(h);
}

static void a_pool_from_inside_of_a_call(void)
{
    char path[4096];
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_result *result = NULL;
    int64_t n = 0;
    const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
    NEED(length > 0);
    stk_args *args = stk_args_new(h.client);
    stk_args_push_str(args, (stk_str){path, (size_t)length});
    WORKS(run(h.client, "pool_inside", args, &result, &e));
    CHECK(stk_result_i64(result, &n) == STK_OK && n == 77);
    stk_result_free(result);
    host_down(h);
}

/* Writes over the memory in which this host's client and the workers meet, as a crashing worker might. What its next call
 * finds is a warning. */
static void scribble(void)
{
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    NEED(maps != NULL);
    while (fgets(line, sizeof line, maps)) {
        uintptr_t from = 0, to = 0;
        if (strstr(line, "memfd:stokehold-control") && sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &from, &to) == 2)
            memset((void *)from, 0xff, to - from); /* NOLINT: the number is an address */
    }
    fclose(maps);
}

/* Makes this host's side of the library speak, while a result and a lease are held. */
static void provoke(int what)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    probed_host = h;
    WORKS(run_i64(h.client, "i64", 6, &probed_result, &e));
    WORKS(stk_lease_new(h.client, 10, &probed_lease, &e));
    const int before = probes_done;
    probe = what;
    scribble();
    const stk_status status = run_i64(h.client, "i64", 7, NULL, NULL);
    CHECK(status == STK_OK || status == STK_PROTOCOL);
    CHECK(probes_done == before + 1 && probe == 0);
    UNTIL(ask(h.client, "i64", 8) == 8); /* it has a fresh lane */
    if (what != 2) {
        stk_result_free(probed_result);
        IS(STK_OK, stk_lease_release(probed_lease));
    }
    host_down(h);
}

static void a_log_callback_may_not_wait(void)
{
    provoke(1);
    for (int i = 0; i <= 7; i++) IS(STK_REENTRANT, probed[i]);
    CHECK(probed[8] == 1);
    IS(STK_REENTRANT, probed[9]);
}

static void a_log_callback_may_read_and_free(void)
{
    provoke(2);
    for (int i = 0; i <= 5; i++) IS(STK_OK, probed[i]);
}

static void nor_may_one_in_a_call(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_stream *stream = NULL;
    stk_sender *sender = NULL;
    stk_value value;
    int64_t n = 0;
    WORKS(stk_context_open(h.client, STK_STR("t"), STK_STR("context"), NULL, NULL, &stream, &sender, &e));
    CHECK(stk_stream_started(stream, &value) == STK_OK && stk_value_i64(&value, &n) == STK_OK && n == 3);
    IS(STK_OK, stk_args_push_i64(stk_sender_item(sender), 5));
    WORKS(stk_sender_send(sender, STK_FOREVER, &e));
    CHECK(next_number(stream) == 4 && end_of(stream) == 5);
    CHECK(ask(h.client, "deferred", 0) == 1);
    stk_sender_free(sender), stk_stream_free(stream);
    host_down(h);
}

/* Of a death the arbiter speaks, in a process of its own. */
static void messages_of_the_arbiter(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    touch("listen");
    FAILS(STK_WORKER_DIED, "signal 6", run(h.client, "abort", NULL, NULL, &e));
    UNTIL(access("heard", F_OK) == 0);
    unlink("listen");
    WORKS(stk_pool_stop(h.pool, &e));
    unlink("heard");
    host_down(h);
}

static void messages_are_what_was_asked_for(void)
{
    host h = host_up(NULL);
    stk_result *result = NULL;
    stk_error *e = NULL;
    bool good = false;
    WORKS(run(h.client, "messages", NULL, &result, &e));
    CHECK(stk_result_bool(result, &good) == STK_OK && good && !odd);
    stk_result_free(result);
    const int before = messages[STK_LOG_WARN];
    scribble();
    run_i64(h.client, "i64", 7, NULL, NULL);
    CHECK(messages[STK_LOG_WARN] > before && messages[STK_LOG_INFO] == 0 && messages[STK_LOG_DEBUG] == 0);
    host_down(h);
}

int main(int argc, char **argv)
{
    static const stk_app apps[] = {
        {.struct_size = sizeof(stk_app), .name = "t", .user = 42, .init = init_app, .call = app, .close = close_app},
        {.struct_size = sizeof(stk_app), .name = "plain", .user = 12345, .call = plain},
        {.struct_size = sizeof(stk_app), .name = "zero", .call = plain},
    };
    static const stk_init_options options = {
        .struct_size = sizeof options, .log = on_message, .log_user = 4711, .log_level = STK_LOG_WARN};
    static const test tests[] = {
        TEST(users_and_instances),
        TEST(the_library_from_inside_of_a_call),
        TEST(a_pool_from_inside_of_a_call),
        TEST(a_log_callback_may_not_wait),
        TEST(nor_may_one_in_a_call),
        TEST(a_log_callback_may_read_and_free),
        TEST(messages_of_the_arbiter),
        TEST(messages_are_what_was_asked_for),
    };
    stk_error *e = NULL;
    if (stk_init(apps, COUNT(apps), &options, &e)) return stk_error_print(e);
    in_the_host = true;
    const int status = run_tests(tests, COUNT(tests), argc, argv);
    closed_files(true); /* a worker may leave in an orderly way before a kill reaches it */
    return status;
}
