/* Calls with items both ways: what either end sends is whole, in order, with one end, and whatever ends one ends the other. */
#include "check.h"

#include <malloc.h>
#include <pthread.h>

#if defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 33)
#define HAS_MALLINFO2 1
#endif
#endif

/* --- in a worker --- */

/* A file in the directory of this run. */
#define GATE "gate"

/* Bytes of its heap; 0 where nobody can tell. */
static int64_t heap_of_worker(void)
{
#ifdef HAS_MALLINFO2
    return (int64_t)mallinfo2().uordblks;
#else
    return 0;
#endif
}

static int64_t told; /* how many contexts ended with STK_CANCELLED for their app */

static stk_status send_i64(stk_sink *sink, int64_t n)
{
    stk_reply_i64(stk_sink_item(sink), n);
    return stk_sink_send(sink);
}

/* Takes numbers from 0, until there are no more; how many. */
static stk_status take_all(stk_inbox *inbox, int64_t *n)
{
    stk_result *item;
    stk_status status;
    int64_t got = -1;
    for (*n = 0; !(status = stk_inbox_next(inbox, STK_FOREVER, &item)); ++*n) {
        if (stk_result_i64(item, &got) || got != *n) return STK_BAD_REQUEST;
        stk_result_free(item);
    }
    return status == STK_END ? STK_OK : status;
}

typedef struct {
    stk_sink *sink;
    int64_t n;
} part;

static void *sends(void *given)
{
    part *p = given;
    for (int64_t i = 0; i < p->n; i++)
        if (send_i64(p->sink, i)) return "not sent";
    return NULL;
}

typedef struct {
    stk_inbox *inbox;
    _Atomic bool ends;
    int64_t n;
} listener;

/* Takes with a limit, so that it can be joined before the app returns. */
static void *listens(void *given)
{
    listener *l = given;
    while (!l->ends) {
        const stk_status status = stk_inbox_next(l->inbox, 10, NULL);
        if (status == STK_OK) l->n++;
        else if (status != STK_PENDING) break;
    }
    return NULL;
}

static stk_status app(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    int64_t n = 0, got = 0;
    stk_sink *sink;
    stk_inbox *inbox;
    stk_result *item, *held[64];
    stk_bytes bytes;
    stk_lease lease;
    stk_status status = STK_OK;
    (void)user;
    if (stk_call_i64(call, 0, &n)) return STK_BAD_REQUEST;
    if (called(call, "i64")) return stk_reply_i64(reply, n);
    if (called(call, "pid")) return stk_reply_i64(reply, getpid());
    if (called(call, "heap")) return stk_reply_i64(reply, heap_of_worker());
    if (called(call, "told")) return stk_reply_i64(reply, told);
    if (called(call, "fail")) return stk_reply_fail(reply, STK_STR("OutOfCoal"), STK_STR("nothing left"));
    if (called(call, "abort")) abort();
    if (called(call, "sleep")) return sleep_ms(n), stk_reply_i64(reply, n);
    if (called(call, "one_way")) {
        if ((status = stk_call_sink(call, NULL, &sink))) return status;
        for (int64_t i = 0; i < n && !status; i++) status = send_i64(sink, i);
        return status;
    }
    if (called(call, "late")) { /* a context is started before all else */
        if ((status = stk_call_sink(call, NULL, &sink)) || (status = send_i64(sink, 1))) return status;
        return stk_call_started(call, reply, &sink, &inbox);
    }
    if (called(call, "dict")) { /* a value of any kind */
        stk_reply_begin_dict(reply), stk_reply_key(reply, STK_STR("k")), stk_reply_i64(reply, n), stk_reply_end(reply);
    } else if (called(call, "lease")) {
        if ((status = stk_call_lease(call, (size_t)n, &lease))) return status;
        fill(lease.data, (size_t)n, 7), stk_reply_lease(reply, lease, (size_t)n);
    } else if (!called(call, "none")) stk_reply_str(reply, STK_STR("ready"));
    if ((status = stk_call_started(call, reply, &sink, &inbox))) return status;
    if (called(call, "none") || called(call, "dict") || called(call, "lease")) return STK_OK;
    if (called(call, "echo")) { /* one for one, and how many */
        for (n = 0; !(status = stk_inbox_next(inbox, STK_FOREVER, &item)); n++) {
            if (stk_result_i64(item, &got)) return STK_BAD_REQUEST;
            stk_result_free(item);
            if ((status = send_i64(sink, got))) return status;
        }
        return status == STK_END ? stk_reply_i64(reply, n) : status;
    }
    if (called(call, "lent")) { /* bytes back as they came, in the worker's own memory */
        for (n = 0; !(status = stk_inbox_next(inbox, STK_FOREVER, &item)); n++) {
            if (stk_result_bytes(item, &bytes) || stk_call_lease(call, bytes.len, &lease)) return STK_BAD_REQUEST;
            if (bytes.len) memcpy(lease.data, bytes.data, bytes.len);
            stk_result_free(item);
            stk_reply_lease(stk_sink_item(sink), lease, bytes.len);
            if ((status = stk_sink_send(sink))) return status;
        }
        return status == STK_END ? stk_reply_i64(reply, n) : status;
    }
    if (called(call, "count")) return (status = take_all(inbox, &n)) ? status : stk_reply_i64(reply, n);
    if (called(call, "gated")) { /* takes nothing before the gate is open */
        while (access(GATE, F_OK) && !stk_call_wait_cancelled(call, 1)) continue;
        return (status = take_all(inbox, &n)) ? status : stk_reply_i64(reply, n);
    }
    if (called(call, "both")) { /* so many each way, by a thread each */
        part p = {sink, n};
        pthread_t thread;
        void *wrong = NULL;
        if (pthread_create(&thread, NULL, sends, &p)) return STK_OS;
        status = take_all(inbox, &got);
        pthread_join(thread, &wrong);
        return status ? status : wrong ? STK_APP : stk_reply_i64(reply, got);
    }
    if (called(call, "returns")) { /* while the opener goes on, and a thread listens to it */
        listener l = {inbox, false, 0};
        pthread_t thread;
        if (pthread_create(&thread, NULL, listens, &l)) return STK_OS;
        for (int64_t i = 0; i < n && !status; i++) status = send_i64(sink, i);
        l.ends = true;
        pthread_join(thread, NULL);
        return status ? status : stk_reply_bool(reply, l.n >= 0);
    }
    if (called(call, "holds")) { /* all at once, and frees every other one */
        for (n = 0; n < 64 && !(status = stk_inbox_next(inbox, STK_FOREVER, &held[n])); n++) continue;
        if (status != STK_END) return STK_BAD_REQUEST;
        for (int64_t i = 0; i < n; i++)
            if (stk_result_bytes(held[i], &bytes) || !is_filled(bytes, bytes.len, i)) return STK_BAD_REQUEST;
        for (int64_t i = 1; i < n; i += 2) stk_result_free(held[i]);
        return stk_reply_i64(reply, n);
    }
    if (called(call, "keeps")) { /* and frees none */
        for (n = 0; !(status = stk_inbox_next(inbox, STK_FOREVER, &item)); n++) continue;
        return status == STK_END ? stk_reply_i64(reply, n) : status;
    }
    if (called(call, "patience")) { /* nothing comes */
        if (stk_inbox_next(inbox, 0, &item) != STK_PENDING || stk_inbox_next(inbox, 20, &item) != STK_PENDING) return STK_APP;
        return stk_reply_i64(reply, n);
    }
    if (called(call, "finishes")) { /* before the opener */
        for (int64_t i = 0; i < n && !status; i++) status = send_i64(sink, i);
        if (status || (status = stk_sink_finish(sink)) || (status = take_all(inbox, &got))) return status;
        return stk_reply_i64(reply, got);
    }
    if (called(call, "breaks") || called(call, "dies")) { /* behind so many each way */
        for (int64_t i = 0; i < n; i++)
            if ((status = stk_inbox_next(inbox, STK_FOREVER, NULL)) || (status = send_i64(sink, i))) return status;
        if (called(call, "dies")) abort();
        return stk_reply_fail(reply, STK_STR("Leak"), STK_STR("the boiler is dry"));
    }
    if (called(call, "waits")) { /* for an item, or for room */
        do status = n ? send_i64(sink, 1) : stk_inbox_next(inbox, STK_FOREVER, NULL);
        while (!status);
        told += status == STK_CANCELLED && stk_call_is_cancelled(call);
        return status;
    }
    return stk_call_no_action(call);
}

/* --- in the host --- */

typedef struct {
    stk_stream *stream;
    stk_sender *sender;
} context;

static stk_status open_with(host h, const char *action, int64_t n, stk_options options, context *c, stk_error **e)
{
    stk_args *args = stk_args_new(h.client);
    stk_args_push_i64(args, n);
    options.struct_size = sizeof options;
    return stk_context_open(h.client, STK_STR("t"), S(action), args, &options, &c->stream, &c->sender, e);
}

static context begin(host h, const char *action, int64_t n)
{
    context c = {NULL, NULL};
    stk_error *e = NULL;
    WORKS(open_with(h, action, n, (stk_options){0}, &c, &e));
    return c;
}

/* The same, and it has said that it is ready. */
static context begin_ready(host h, const char *action, int64_t n)
{
    stk_value value;
    stk_str text = {NULL, 0};
    context c = begin(h, action, n);
    CHECK(stk_stream_started(c.stream, &value) == STK_OK && stk_value_str(&value, &text) == STK_OK);
    CHECK(stk_str_eq(text, STK_STR("ready")));
    return c;
}

static void end(context c) { stk_sender_free(c.sender), stk_stream_free(c.stream); }

static stk_status send_number(stk_sender *sender, int64_t n, stk_error **e)
{
    IS(STK_OK, stk_args_push_i64(stk_sender_item(sender), n));
    return stk_sender_send(sender, STK_FOREVER, e);
}

static void send_numbers(stk_sender *sender, int64_t n)
{
    stk_error *e = NULL;
    for (int64_t i = 0; i < n; i++) WORKS(send_number(sender, i, &e));
}

/* Every place among the client's 64 is free, and the worker is the one that it was. */
static void nothing_is_left(host h, int64_t pid)
{
    context all[64];
    CHECK(ask(h.client, "pid", 0) == pid);
    for (int i = 0; i < 64; i++) all[i] = begin(h, "none", i);
    for (int i = 0; i < 64; i++) CHECK(next_number(all[i].stream) == -1), end(all[i]);
}

static void one_for_one(void)
{
    host h = host_up(NULL);
    const int64_t pid = ask(h.client, "pid", 0), lengths[] = {0, 1, 10, under("valgrind") ? 200 : 3000};
    for (size_t k = 0; k < COUNT(lengths); k++) {
        stk_error *e = NULL;
        context c = begin_ready(h, "echo", 0);
        for (int64_t i = 0; i < lengths[k]; i++) {
            WORKS(send_number(c.sender, i * 3, &e));
            CHECK(next_number(c.stream) == i * 3);
        }
        IS(STK_PENDING, stk_stream_next(c.stream, 10, NULL, &e));
        IS(STK_OK, stk_sender_finish(c.sender)), IS(STK_OK, stk_sender_finish(c.sender));
        FAILS(STK_CLOSED, "", send_number(c.sender, 1, &e));
        CHECK(next_number(c.stream) == -1 && end_of(c.stream) == lengths[k]);
        end(c);
    }
    nothing_is_left(h, pid);
    host_down(h);
}

typedef struct {
    stk_sender *sender;
    int64_t n;
} load;

static void *feeds(void *given)
{
    load *l = given;
    send_numbers(l->sender, l->n);
    IS(STK_OK, stk_sender_finish(l->sender));
    return NULL;
}

/* Far more each way than there is room for. */
static void both_ways_at_once(void)
{
    const int64_t n = under("valgrind") ? 3000 : 50000;
    host h = host_up(NULL);
    context c = begin_ready(h, "both", n);
    load l = {c.sender, n};
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, feeds, &l) == 0);
    for (int64_t i = 0; i < n; i++) CHECK(next_number(c.stream) == i);
    CHECK(next_number(c.stream) == -1 && end_of(c.stream) == n);
    NEED(pthread_join(thread, NULL) == 0);
    end(c);
    host_down(h);
}

static void bytes_of_any_size(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_result *item;
    stk_bytes bytes;
    stk_lease lease;
    const int64_t pid = ask(h.client, "pid", 0);
    const size_t lengths[] = {0, 1, 430, 431, 450, 5000, 65536, 3000000};
    for (size_t k = 0; k < 2 * COUNT(lengths); k++) {
        const size_t len = lengths[k / 2];
        const int64_t items = len > 1000000 ? 5 : under("valgrind") ? 10 : 100;
        unsigned char *buffer = malloc(len + 1);
        context c = begin_ready(h, "lent", 0);
        for (int64_t i = 0; i < items; i++) {
            stk_args *next_item = stk_sender_item(c.sender);
            if (k % 2) {
                WORKS(stk_lease_new(h.client, len, &lease, &e));
                fill(lease.data, len, i);
                IS(STK_OK, stk_args_push_lease(next_item, lease));
                IS(STK_LENT, stk_lease_writable(lease));
            } else fill(buffer, len, i), IS(STK_OK, stk_args_push_bytes(next_item, buffer, len));
            WORKS(stk_sender_send(c.sender, STK_FOREVER, &e));
            if (k % 2 && len) IS(STK_LENT, stk_lease_writable(lease)); /* the app may still look */
            if (k % 2) IS(STK_OK, stk_lease_release(lease));
            WORKS(stk_stream_next(c.stream, STK_FOREVER, &item, &e));
            CHECK(stk_result_bytes(item, &bytes) == STK_OK && is_filled(bytes, len, i));
            stk_result_free(item);
        }
        IS(STK_OK, stk_sender_finish(c.sender));
        CHECK(end_of(c.stream) == items);
        end(c);
        free(buffer);
    }
    nothing_is_left(h, pid);
    host_down(h);
}

static void what_is_said_first(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_value value, inner;
    stk_bytes bytes;
    int64_t n = 0;
    context c = begin(h, "none", 0);
    CHECK(stk_stream_started(c.stream, &value) == STK_OK && value.kind == STK_KIND_NONE);
    CHECK(next_number(c.stream) == -1), end(c);
    c = begin(h, "dict", 9);
    CHECK(stk_stream_started(c.stream, &value) == STK_OK && stk_value_get(&value, STK_STR("k"), &inner) == STK_OK);
    CHECK(stk_value_i64(&inner, &n) == STK_OK && n == 9), end(c);
    for (int64_t len = 1; len < 2000000; len *= 100) {
        c = begin(h, "lease", len);
        CHECK(next_number(c.stream) == -1); /* it lasts as long as the stream */
        CHECK(stk_stream_started(c.stream, &value) == STK_OK && stk_value_bytes(&value, &bytes) == STK_OK);
        CHECK(is_filled(bytes, (size_t)len, 7)), end(c);
    }
    /* An app that starts none is taken as it is. */
    c = begin(h, "i64", 5);
    IS(STK_END, stk_stream_started(c.stream, &value));
    FAILS(STK_CLOSED, "", send_number(c.sender, 1, &e));
    stk_sender_free(c.sender); /* cancels nothing: nobody waits for its end */
    CHECK(next_number(c.stream) == 5 && next_number(c.stream) == -1);
    stk_stream_free(c.stream);
    c = begin(h, "one_way", 3);
    IS(STK_END, stk_stream_started(c.stream, &value));
    FAILS(STK_CLOSED, "", send_number(c.sender, 1, &e));
    stk_sender_free(c.sender);
    CHECK(next_number(c.stream) == 0 && next_number(c.stream) == 1 && next_number(c.stream) == 2 && next_number(c.stream) == -1);
    stk_stream_free(c.stream);
    host_down(h);
}

static void outcomes_before_the_start(void)
{
    host h = host_up(workers(1));
    stk_error *e = NULL;
    stk_args *args;
    stk_stream *stream = NULL;
    stk_pending *running = NULL;
    context c = {NULL, NULL};
    FAILS(STK_APP, "nothing left", open_with(h, "fail", 0, (stk_options){0}, &c, &e));
    FAILS(STK_BAD_REQUEST, "no app", stk_context_open(h.client, STK_STR("x"), STK_STR("echo"), NULL, NULL, &c.stream, &c.sender, &e));
    FAILS(STK_WORKER_DIED, "signal 6", open_with(h, "abort", 0, (stk_options){0}, &c, &e));
    IS(STK_DEADLINE, open_with(h, "sleep", 300, (stk_options){.deadline_ms = 50}, &c, &e));
    CHECK(stk_error_limit(e) == STK_LIMIT_CALL);
    stk_error_free(e), e = NULL;
    args = stk_args_new(h.client), stk_args_push_i64(args, 1500);
    WORKS(stk_submit(h.client, STK_STR("t"), STK_STR("sleep"), args, NULL, &running, &e));
    IS(STK_DEADLINE, open_with(h, "echo", 0, (stk_options){.queue_ms = 20}, &c, &e));
    CHECK(stk_error_limit(e) == STK_LIMIT_QUEUE && stk_error_started(e) == 0);
    stk_error_free(e), e = NULL;
    stk_pending_free(running);
    CHECK(c.stream == NULL && c.sender == NULL);
    /* The other way round: to start what nobody opened. */
    args = stk_args_new(h.client), stk_args_push_i64(args, 0);
    WORKS(stk_stream_open(h.client, STK_STR("t"), STK_STR("echo"), args, NULL, &stream, &e));
    FAILS(STK_BAD_REQUEST, "no context", stk_stream_next(stream, STK_FOREVER, NULL, &e));
    stk_stream_free(stream);
    FAILS(STK_BAD_REQUEST, "no context", run_i64(h.client, "echo", 0, NULL, &e));
    c = begin(h, "late", 0);
    CHECK(next_number(c.stream) == 1);
    FAILS(STK_APP, "before any item", stk_stream_next(c.stream, STK_FOREVER, NULL, &e));
    end(c);
    host_down(h);
}

static void failures_come_behind_the_items(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    for (int round = 0; round < 8; round++) {
        const int64_t n = round / 2 * 5 + 1; /* so many show that it had started before it failed */
        context c = begin_ready(h, round % 2 ? "dies" : "breaks", n);
        send_numbers(c.sender, n);
        int64_t got = 0;
        stk_result *item;
        stk_status status;
        while (!(status = stk_stream_next(c.stream, STK_FOREVER, &item, &e))) CHECK(number(item) == got), got++;
        CHECK(round % 2 ? status == STK_WORKER_DIED && got <= n : status == STK_APP && got == n);
        stk_error_free(e), e = NULL;
        FAILS(STK_CLOSED, "", send_number(c.sender, n, &e));
        CHECK(next_number(c.stream) == -1);
        end(c);
    }
    CHECK(ask(h.client, "i64", 3) == 3);
    host_down(h);
}

/* One worker: the next call shows that it was let go of, its pid that it was not replaced. */
static void whoever_gives_up_ends_both(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    const int64_t pid = ask(h.client, "pid", 0);
    int64_t rounds = 0;
    for (int round = 0; round < 10; round++, rounds++) {
        context c = begin_ready(h, "waits", round % 2);
        stk_canceller *canceller = NULL;
        pthread_t thread;
        if (round > 5) sleep_ms(50); /* asleep for want of room, or of an item */
        switch (round / 2) {
        case 0: end(c); break;
        case 1: stk_stream_free(c.stream), stk_sender_free(c.sender); break;
        case 2:
            IS(STK_OK, stk_stream_cancel(c.stream));
            FAILS(STK_CLOSED, "", send_number(c.sender, 1, &e));
            IS(STK_OK, stk_sender_finish(c.sender));
            end(c);
            break;
        case 3: /* a part must not look like the whole */
            stk_sender_free(c.sender);
            stk_status status;
            while (!(status = stk_stream_next(c.stream, STK_FOREVER, NULL, &e))) continue;
            IS(STK_CANCELLED, status);
            CHECK(stk_error_cancelled_by(e) == STK_BY_HANDLE);
            stk_error_free(e), e = NULL;
            stk_stream_free(c.stream);
            break;
        case 4:
            IS(STK_OK, stk_stream_canceller(c.stream, &canceller, NULL));
            NEED(pthread_create(&thread, NULL, cancel_soon, canceller) == 0);
            while (!(status = stk_stream_next(c.stream, STK_FOREVER, NULL, &e))) continue;
            IS(STK_CANCELLED, status);
            stk_error_free(e), e = NULL;
            NEED(pthread_join(thread, NULL) == 0);
            FAILS(STK_CLOSED, "", send_number(c.sender, 1, &e));
            end(c), stk_canceller_free(canceller);
            break;
        }
        CHECK(ask(h.client, "pid", 0) == pid);
    }
    CHECK(ask(h.client, "told", 0) == rounds);
    nothing_is_left(h, pid);
    host_down(h);
}

static void who_has_no_room_waits_or_not(void)
{
    stk_config *config = workers(1);
    stk_config_set_kill_grace_ms(config, 600000);
    host h = host_up(config);
    stk_error *e = NULL;
    stk_status status = STK_OK;
    int64_t sent = 0;
    context c = begin_ready(h, "gated", 0);
    while (sent < 100000 && !status) {
        IS(STK_OK, stk_args_push_i64(stk_sender_item(c.sender), sent));
        if (!(status = stk_sender_send(c.sender, 0, &e))) sent++;
    }
    CHECK(status == STK_PENDING && e == NULL && sent > 100 && sent <= 1024);
    IS(STK_PENDING, stk_sender_send(c.sender, 20, &e));
    FILE *gate = fopen(GATE, "w");
    NEED(gate && fclose(gate) == 0);
    WORKS(stk_sender_send(c.sender, STK_FOREVER, &e)), sent++; /* the item was still there */
    for (int i = 0; i < 10; i++) WORKS(send_number(c.sender, sent, &e)), sent++;
    IS(STK_OK, stk_sender_finish(c.sender));
    CHECK(end_of(c.stream) == sent);
    end(c);
    NEED(unlink(GATE) == 0);

    /* The call's own time, which nobody looks at but who sends. */
    c = (context){NULL, NULL};
    WORKS(open_with(h, "gated", 0, (stk_options){.deadline_ms = 1500}, &c, &e));
    while (!(status = send_number(c.sender, 1, &e))) continue;
    IS(STK_DEADLINE, status);
    CHECK(stk_error_limit(e) == STK_LIMIT_CALL);
    stk_error_free(e), e = NULL;
    IS(STK_DEADLINE, stk_stream_wait(c.stream, STK_FOREVER, &e));
    stk_error_free(e);
    end(c);
    host_down(h);
}

static void finished_by_the_app_first(void)
{
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_value value;
    context c = begin_ready(h, "finishes", 3);
    CHECK(next_number(c.stream) == 0 && next_number(c.stream) == 1 && next_number(c.stream) == 2 && next_number(c.stream) == -1);
    IS(STK_PENDING, stk_stream_value(c.stream, &value)); /* the call goes on */
    IS(STK_PENDING, stk_stream_wait(c.stream, 10, &e));
    send_numbers(c.sender, 5);
    IS(STK_OK, stk_sender_finish(c.sender));
    CHECK(end_of(c.stream) == 5);
    end(c);
    c = begin_ready(h, "patience", 4);
    CHECK(end_of(c.stream) == 4);
    end(c);
    host_down(h);
}

static void held_by_the_app(void)
{
    enum { LENGTH = 10000 };
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_lease lease;
    const int64_t pid = ask(h.client, "pid", 0);
    for (int round = 0; round < 4; round++) {
        context c = begin_ready(h, "holds", 0);
        for (int64_t i = 0; i < 40; i++) {
            WORKS(stk_lease_new(h.client, LENGTH, &lease, &e));
            fill(lease.data, LENGTH, i);
            stk_args_push_lease(stk_sender_item(c.sender), lease);
            WORKS(stk_sender_send(c.sender, STK_FOREVER, &e));
            IS(STK_OK, stk_lease_release(lease));
        }
        IS(STK_OK, stk_sender_finish(c.sender));
        CHECK(end_of(c.stream) == 40);
        end(c);
    }
    nothing_is_left(h, pid);
    host_down(h);
}

/* A lease that the app is through with may be written again, for the next item. */
static void one_lease_for_all_items(void)
{
    enum { LENGTH = 100000 };
    host h = host_up(NULL);
    stk_error *e = NULL;
    stk_lease lease;
    stk_result *item;
    stk_bytes bytes;
    WORKS(stk_lease_new(h.client, LENGTH, &lease, &e));
    context c = begin_ready(h, "lent", 0);
    for (int64_t i = 0; i < 20 && !check_failures; i++) {
        IS(STK_OK, stk_lease_writable(lease));
        fill(lease.data, LENGTH, i);
        IS(STK_OK, stk_args_push_lease(stk_sender_item(c.sender), lease));
        WORKS(stk_sender_send(c.sender, STK_FOREVER, &e));
        WORKS(stk_stream_next(c.stream, STK_FOREVER, &item, &e));
        CHECK(stk_result_bytes(item, &bytes) == STK_OK && is_filled(bytes, LENGTH, i));
        stk_result_free(item);
        IS(STK_LENT, stk_lease_writable(lease)); /* the sender has not looked */
        if (i == 10) IS(STK_OK, stk_sender_finish(c.sender)), CHECK(end_of(c.stream) == 11);
        if (i == 19) end(c); /* looks as well */
        UNTIL((i == 19 || stk_sender_reclaim(c.sender) == STK_OK) && stk_lease_writable(lease) == STK_OK);
        if (i == 10) end(c), c = begin_ready(h, "lent", 0);
    }
    IS(STK_OK, stk_lease_release(lease));
    host_down(h);
}

static void an_app_that_listens_with_a_thread(void)
{
    host h = host_up(NULL);
    const int64_t pid = ask(h.client, "pid", 0);
    for (int round = 0; round < 10; round++) {
        context c = begin_ready(h, "returns", 20);
        stk_status status = STK_OK;
        stk_error *e = NULL;
        for (int64_t i = 0; i < 100 && !status; i++) {
            stk_args_push_i64(stk_sender_item(c.sender), i);
            status = stk_sender_send(c.sender, STK_FOREVER, NULL);
        }
        CHECK(status == STK_OK || status == STK_CLOSED);
        for (int64_t i = 0; i < 20; i++) CHECK(next_number(c.stream) == i);
        WORKS(stk_stream_wait(c.stream, STK_FOREVER, &e));
        end(c);
    }
    nothing_is_left(h, pid);
    host_down(h);
}

/* What an app does not free is freed when it returns. */
static void kept_by_the_app(void)
{
    if (under("address")) SKIP("the sanitizer's heap does not say how large it is");
    host h = host_up(workers(1));
    int64_t before = 0;
    for (int round = 0; round < 30; round++) {
        context c = begin_ready(h, "keeps", 0);
        send_numbers(c.sender, 100);
        IS(STK_OK, stk_sender_finish(c.sender));
        CHECK(end_of(c.stream) == 100);
        end(c);
        if (round == 9) before = ask(h.client, "heap", 0);
    }
    const int64_t after = ask(h.client, "heap", 0);
    host_down(h);
    if (before <= 0) SKIP("this C library does not say how large its heap is");
    CHECK(after - before < 200000); /* 2,000 items of half a kilobyte */
}

static void the_pool_ends(void)
{
    host h = host_up(workers(1));
    stk_error *e = NULL;
    stk_status status;
    context c = begin_ready(h, "waits", 1);
    kill((pid_t)stk_pool_arbiter_pid(h.pool), SIGKILL);
    while (!(status = stk_stream_next(c.stream, STK_FOREVER, NULL, &e))) continue;
    CHECK(status == STK_ARBITER_DIED || status == STK_WORKER_DIED);
    stk_error_free(e), e = NULL;
    status = send_number(c.sender, 1, NULL);
    CHECK(status == STK_CLOSED || status == STK_ARBITER_DIED);
    end(c);
    host_down(h);
}

int main(int argc, char **argv)
{
    static const stk_app apps[] = {{.struct_size = sizeof(stk_app), .name = "t", .call = app}};
    static const test tests[] = {
        TEST(one_for_one),
        TEST(both_ways_at_once),
        TEST(bytes_of_any_size),
        TEST(what_is_said_first),
        TEST(outcomes_before_the_start),
        TEST(failures_come_behind_the_items),
        TEST(whoever_gives_up_ends_both),
        TEST(who_has_no_room_waits_or_not),
        TEST(finished_by_the_app_first),
        TEST(held_by_the_app),
        TEST(kept_by_the_app),
        TEST(one_lease_for_all_items),
        TEST(an_app_that_listens_with_a_thread),
        TEST(the_pool_ends),
    };
    stk_error *e = NULL;
    if (stk_init(apps, 1, NULL, &e)) return stk_error_print(e);
    return run_tests(tests, COUNT(tests), argc, argv);
}
