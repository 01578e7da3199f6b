/* stokehold 0.1.0: a supervised pool of worker processes, called over shared memory. The C interface.
 *
 * Work that blocks, leaks or crashes (models, codecs, native code, heavy computation) runs in worker processes; the
 * threads of the host stay quick. A call costs about what handing over to another thread costs, whatever the size of its
 * payload, and has exactly one outcome, whoever is killed when.
 *
 *     static stk_status call(uintptr_t user, const stk_call *call, stk_reply *reply)
 *     {
 *         int64_t a, b;                                                 // in a worker process
 *         (void)user;
 *         if (stk_call_i64(call, 0, &a) || stk_call_i64(call, 1, &b)) return STK_BAD_REQUEST;
 *         return stk_reply_i64(reply, a + b);
 *     }
 *
 *     int main(void)
 *     {
 *         static const stk_app apps[] = {{ .struct_size = sizeof(stk_app), .name = "calc", .call = call }};
 *         stk_error *e = NULL; stk_pool *pool; stk_client *client; stk_result *result; int64_t sum;
 *         if (stk_init(apps, 1, NULL, &e)) return stk_error_print(e);  // the first statement: see stk_init
 *         if (stk_pool_start(NULL, &pool, &e)) return stk_error_print(e);
 *         if (stk_client_new(pool, &client, &e)) return stk_error_print(e);
 *         stk_args *args = stk_args_new(client);
 *         stk_args_push_i64(args, 2);
 *         stk_args_push_i64(args, 3);
 *         if (stk_execute(client, STK_STR("calc"), STK_STR("add"), args, NULL, &result, &e)) return stk_error_print(e);
 *         stk_result_i64(result, &sum);                                 // 5
 *         stk_result_free(result); stk_client_free(client); stk_pool_free(pool);
 *         return 0;
 *     }
 *
 * THE RULES, which hold wherever a function does not say otherwise:
 *
 * Status and error. A function that can fail returns a stk_status, 0 (STK_OK) for success. One with a last parameter
 *   `stk_error **error` stores an error object there when it fails, and only then: begin with NULL, free what you got.
 *   You may pass NULL. Outputs are written on success only; there are no parameters that are both in and out.
 * Ownership. What a stk_X_new or an output of type stk_X ** gave you is yours until you give it to stk_X_free, or to a
 *   function that says it consumes it. Freeing NULL does nothing, freeing twice is undefined. Any order of freeing is right: what still needs
 *   something keeps it. stk_str, stk_bytes and stk_value that you read are views: they last as long as what they were
 *   read from, and are never freed.
 * Threads. No function keeps anything for a thread: any thread may use any object. A `const T *` parameter may be used by
 *   several threads at a time; a `T *` parameter belongs to one function at a time. Freeing is the last use.
 * Pointers. NULL, a bad alignment, an unknown number, a length that cannot be or text that is not UTF-8 is STK_INVALID.
 *   NULL with a length of 0 is an empty text or array. What cannot be checked is your promise: a pointer that is not NULL
 *   points to what its type says, not freed.
 * Structs that you fill begin with `struct_size`: set all to zero, then that to sizeof.
 * Callbacks run on the threads that their types name, with your `user` first. They must return.
 * Signals. Nothing here may be called from a signal handler. No signal handler is installed in your process, no signal is
 *   blocked, SIGPIPE is never raised; EINTR is dealt with. Functions may change errno.
 * Forks. Handles are of the process that made them. In a copy by fork, functions that would reach the pool answer
 *   STK_FORKED and do no harm; free the handles or not. A small result can be read there; what lies in shared memory
 *   cannot, and a view of it must not be. All descriptors of this library are closed on exec.
 * Trust. The processes of a pool are programs of one user that use this library. Payload bytes are read in place on the
 *   premise that nobody writes a block after lending it; everything else is copied before it is looked at.
 * Limits. 1 GiB a message; 64 calls in flight a client; 2 GiB of shared memory a client, 4.25 a worker; 1,024 clients, 64
 *   workers, 256 apps a pool; names of 255 bytes; lists and dicts of 1,048,576 entries, nested 510 deep.
 *
 * In C++ this header is the same; callbacks must not let exceptions out. C++17 has no designated initializers:
 *   stk_app app{}; app.struct_size = sizeof app; app.name = "calc"; app.call = call; */

#ifndef STOKEHOLD_H
#define STOKEHOLD_H

/* Made by cbindgen from c-api/src; do not edit. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The version that this header belongs to, as text. */
#define STK_VERSION "0.1.0"

/* On functions whose failure leaves nothing to go on with. */
#if defined(__GNUC__) || defined(__clang__)
#define STK_MUST_USE __attribute__((warn_unused_result))
#else
#define STK_MUST_USE
#endif

/* A stk_str of a string literal; of a variable: stk_str_from. */
#ifdef __cplusplus
#define STK_STR(literal) (stk_str{"" literal, sizeof(literal) - 1})
#else
#define STK_STR(literal) ((stk_str){"" literal, sizeof(literal) - 1})
#endif

/* The same where only a constant may stand: static const stk_str add = STK_STR_INIT("add"); */
#define STK_STR_INIT(literal) {"" literal, sizeof(literal) - 1}

/* Makes a library of apps of a shared object: what stk_config_set_app_library and `stokehold serve --app-library` load in
 * worker processes. Once in an object, with what stk_init takes, which a library does not call:
 *     static const stk_app apps[] = {{ .struct_size = sizeof(stk_app), .name = "calc", .call = call }};
 *     STK_APP_LIBRARY(apps, 1, NULL);
 * It is also loaded once when the pool starts, to ask for the names. It must be linked with this version of the library; with
 * the archive: -Wl,--exclude-libs,ALL. */
#ifdef __cplusplus
#define STK_EXPORT extern "C" __attribute__((visibility("default")))
#else
#define STK_EXPORT extern __attribute__((visibility("default")))
#endif
#define STK_APP_LIBRARY(apps, n, options) \
    STK_EXPORT int32_t stokehold_app_library(uint32_t abi, uint32_t purpose, int32_t socket); \
    STK_EXPORT int32_t stokehold_app_library(uint32_t abi, uint32_t purpose, int32_t socket) \
    { \
        return stk_library_enter(abi, purpose, socket, (apps), (n), (options)); \
    } \
    STK_EXPORT int32_t stokehold_app_library(uint32_t abi, uint32_t purpose, int32_t socket)

/**
 * The version that this header belongs to. While the major version is 0, a program wants the same minor version.
 */
#define STK_VERSION_MAJOR 0

/**
 * See STK_VERSION_MAJOR.
 */
#define STK_VERSION_MINOR 1

/**
 * See STK_VERSION_MAJOR.
 */
#define STK_VERSION_PATCH 0

/**
 * Not known, or not a matter of a worker's death.
 */
#define STK_CAUSE_UNKNOWN 0

/**
 * It ended by itself; the detail is its exit status.
 */
#define STK_CAUSE_EXIT 1

/**
 * A signal ended it; the detail is its number.
 */
#define STK_CAUSE_SIGNAL 2

/**
 * The kernel's out-of-memory killer.
 */
#define STK_CAUSE_OOM 3

/**
 * It did not respond and was killed.
 */
#define STK_CAUSE_HUNG 4

/**
 * It was replaced on purpose.
 */
#define STK_CAUSE_RECYCLED 5

/**
 * It wrote what no correct worker writes.
 */
#define STK_CAUSE_CORRUPT 6

/**
 * It never became ready.
 */
#define STK_CAUSE_BOOT_FAILED 7

/**
 * The pool killed it because this call's deadline passed and it did not let go.
 */
#define STK_CAUSE_DEADLINE 8

/**
 * The same, over another call of this worker.
 */
#define STK_CAUSE_OTHERS_DEADLINE 9

/**
 * The pool killed it because it was closed.
 */
#define STK_CAUSE_SHUTDOWN 10

/**
 * Not known, or not a matter of a bound.
 */
#define STK_BOUND_UNKNOWN 0

/**
 * Calls in flight of one client.
 */
#define STK_BOUND_CALLS 1

/**
 * Bytes of payload.
 */
#define STK_BOUND_BYTES 2

/**
 * Results of one worker that callers have not freed.
 */
#define STK_BOUND_RESULTS 3

/**
 * Clients of a pool.
 */
#define STK_BOUND_CLIENTS 4

/**
 * Regions of shared memory of a pool.
 */
#define STK_BOUND_REGIONS 5

/**
 * Calls that one worker has deferred.
 */
#define STK_BOUND_DEFERRED 6

/**
 * Bytes of one stream.
 */
#define STK_BOUND_STREAM 7

/**
 * Not known, or not a matter of time.
 */
#define STK_LIMIT_UNKNOWN 0

/**
 * That of the whole call, or the pool's.
 */
#define STK_LIMIT_CALL 1

/**
 * That of the queue: until then some worker had to begin with the call.
 */
#define STK_LIMIT_QUEUE 2

/**
 * That of one item: until then the next one of the stream had to come.
 */
#define STK_LIMIT_ITEM 3

/**
 * Not known, or nobody.
 */
#define STK_BY_UNKNOWN 0

/**
 * The holder of the call.
 */
#define STK_BY_CALLER 1

/**
 * Another thread, through a handle to the call.
 */
#define STK_BY_HANDLE 2

/**
 * Nobody wants it any more: the client whose call it was left, or its process died. Apps are told so.
 */
#define STK_BY_DISCONNECTED 3

/**
 * The call in which an app made this one was cancelled, or has ended.
 */
#define STK_BY_PARENT 4

/**
 * No messages.
 */
#define STK_LOG_OFF 0

/**
 * What went wrong and needs somebody's attention.
 */
#define STK_LOG_ERROR 1

/**
 * What went wrong and was dealt with.
 */
#define STK_LOG_WARN 2

/**
 * What an operator wants to know: workers that start and die, pools that degrade.
 */
#define STK_LOG_INFO 3

/**
 * For those who look for a fault in their program.
 */
#define STK_LOG_DEBUG 4

/**
 * For those who look for a fault in this library.
 */
#define STK_LOG_TRACE 5

/**
 * Threads wait by measured cost: a short while spinning, then asleep. What one wants, nearly always.
 */
#define STK_WAIT_ADAPTIVE 0

/**
 * Threads never spin.
 */
#define STK_WAIT_PARK 1

/**
 * Threads spin for as long as it takes. For processors of one's own.
 */
#define STK_WAIT_SPIN 2

/**
 * For functions that wait: as long as it takes.
 */
#define STK_FOREVER 18446744073709551615ull

/**
 * Nothing.
 */
#define STK_KIND_NONE 0

/**
 * A truth value.
 */
#define STK_KIND_BOOL 1

/**
 * An integer of 64 bits.
 */
#define STK_KIND_I64 2

/**
 * A floating-point number of 64 bits.
 */
#define STK_KIND_F64 3

/**
 * UTF-8 text.
 */
#define STK_KIND_STR 4

/**
 * Bytes.
 */
#define STK_KIND_BYTES 5

/**
 * A list of values.
 */
#define STK_KIND_LIST 6

/**
 * A dict: pairs of text and value.
 */
#define STK_KIND_DICT 7

/**
 * The arguments of one call, put in one after another. Text and bytes are copied when they are put in; a lease is
 * lent. Given to stk_execute, which consumes it; else yours to free. (A sender's item is put together with the same
 * functions: stk_sender_item.)
 *
 * Each function on it returns a status, and the first that failed is remembered: stk_execute refuses the arguments
 * with it, so that you may put in all of them and look at one status.
 */
typedef struct stk_args stk_args;

/**
 * One call, for the function that runs it. Valid until that returns; functions on it belong to the thread that it was
 * given to.
 */
typedef struct stk_call stk_call;

/**
 * Cancels one call, whose stk_pending or stk_stream another thread waits for. Yours to free, before or after that; any
 * thread may use it, several at a time. It keeps its client connected.
 */
typedef struct stk_canceller stk_canceller;

/**
 * A connection to a pool, for all threads of a process at once. Yours to free, in any order with everything else. It
 * outlives its pool: calls are refused then.
 *
 * Up to 64 calls are in flight at a time, over all threads and including results that are not freed.
 */
typedef struct stk_client stk_client;

/**
 * The outcomes of calls that stk_submit_to sent, the items and ends of those of stk_stream_to, and a descriptor that is
 * readable when there may be one. The loop: watch stk_completions_fd for reading, level- or edge-triggered; when it is
 * readable, call stk_completions_next until it returns STK_PENDING. Calls and streams take turns, one item a look.
 *
 * Any thread may submit and cancel while one waits at the descriptor. Yours to free, which cancels what is in flight; one
 * at a time for each client.
 */
typedef struct stk_completions stk_completions;

/**
 * The configuration of one pool. Given to stk_pool_start, which consumes it; else yours to free.
 *
 * The functions that set something return STK_INVALID for text, numbers and descriptors that mean nothing; whether the
 * settings can be, stk_pool_start says.
 */
typedef struct stk_config stk_config;

/**
 * A call whose answer comes later, in a worker: see stk_call_defer. Yours: put the answer together on stk_deferred_reply and
 * give the handle to stk_deferred_answer, on any thread. Freed instead, or lost with a thread of yours, it is answered with
 * STK_APP, class "Dropped".
 *
 * Until then the call runs as far as its caller and the pool are concerned: what the caller lent stays lent, its deadline
 * counts, and a worker that is told to leave waits for it within the grace that was configured. A call that nobody waits
 * for any more (stk_deferred_is_cancelled) is to be answered or freed soon: the worker is replaced otherwise, as with
 * any other call.
 */
typedef struct stk_deferred stk_deferred;

/**
 * Why something did not happen: what a function stores through its last parameter, if you give one. Yours to free.
 *
 * It belongs to no thread and to no pool: it can be read after everything else was freed.
 */
typedef struct stk_error stk_error;

/**
 * What the opener of a context sends, in the order in which it was sent; from stk_call_started. Belongs to the call: it is
 * gone when the app's function returns. Until then any thread may use it, one at a time, also while another one uses the sink.
 *
 *     if ((status = stk_call_started(call, reply, &sink, &inbox))) return status;
 *     while (!(status = stk_inbox_next(inbox, STK_FOREVER, &item))) {
 *         if (stk_result_i64(item, &n)) return STK_BAD_REQUEST;
 *         stk_result_free(item);
 *         stk_reply_i64(stk_sink_item(sink), n + 1);
 *         if ((status = stk_sink_send(sink))) return status;
 *     }
 *     return status == STK_END ? STK_OK : status;    // or a reply: the stream's value
 */
typedef struct stk_inbox stk_inbox;

/**
 * A call in flight, or one whose outcome was fetched. Yours to free, which cancels it if it is in flight. Any thread
 * may wait for it, one at a time.
 */
typedef struct stk_pending stk_pending;

/**
 * A supervised pool of worker processes. Yours to free, in any order with everything else; to free it is to kill its
 * workers, unless it was stopped.
 */
typedef struct stk_pool stk_pool;

/**
 * What an app answers: one value, put together as arguments are, or a lease. Belongs to the function that it was given
 * to, and to its thread. Nothing put in is none; a second value is STK_INVALID. The first function on it that failed
 * is remembered: an app that returns STK_OK all the same has failed with it.
 */
typedef struct stk_reply stk_reply;

/**
 * What a call returned, or an item of one. Yours to free, in any order with everything else; until then it holds one of its
 * client's 64 calls and the worker's memory, and what was read from it stays valid. It may be read by several threads at a
 * time. In an app, the items of an stk_inbox are results as well, which last until the app's function returns at most.
 */
typedef struct stk_result stk_result;

/**
 * The way of items to the app of a context, which takes them in the order in which they were sent; from stk_context_open. Any
 * thread may use it, with its item, one at a time, also while another one takes what the app sends.
 *
 * Yours to free, in any order with everything else. What the app is to take for the end is said by stk_sender_finish; a sender
 * that is freed before, in a call that goes on, cancels it, so that the app does not take a part for the whole.
 */
typedef struct stk_sender stk_sender;

/**
 * The way of a call's items to its caller, who has them in the order in which they were sent, before the call's reply or
 * error. Belongs to the call: it is gone when the app's function returns. Until then any thread may use it, with its item, one
 * at a time.
 *
 *     if (stk_call_sink(call, NULL, &sink)) return STK_APP;
 *     for (i = 0; i < n; i++) {
 *         stk_reply_i64(stk_sink_item(sink), i);
 *         if ((status = stk_sink_send(sink))) return status;
 *     }
 *     return STK_OK;                       // or a reply: the stream's value
 */
typedef struct stk_sink stk_sink;

/**
 * The items that an action answers with, or that the app of a context sends, taken one by one, in the order in which they were
 * sent. Yours to free, in any order with everything else, which cancels the call if it has not ended. Any thread may take
 * items, one at a time.
 *
 * Each item is an stk_result, held where the worker put it until it is freed: then there is room for further ones. The stream
 * and all its items, and its sender if it is that of a context, together hold one of the client's 64 calls. An action that
 * answers with one result is a stream of that item; to stk_execute and stk_submit an action that streams answers with the list
 * of its items.
 */
typedef struct stk_stream stk_stream;

/**
 * What every function that can fail returns. The numbers never change meaning; more may come, so treat one that you
 * do not know as a failure. 1 to 99: how a call ended. 100 to 199: starting and joining a pool. 200 to 299: values.
 * 300 to 399: the system. 400 and up: this interface.
 */
typedef uint32_t stk_status;

/**
 * UTF-8 text: pointer and length, without a terminating zero. NULL with length 0 is the empty text. STK_STR makes one
 * of a string literal, stk_str_from of a `char *`.
 *
 * As an input it need only last until the function returns. As an output it lasts as long as what it was read from,
 * and nobody writes to it.
 */
typedef struct {
    /**
     * The first byte.
     */
    const char *data;
    /**
     * How many bytes.
     */
    size_t len;
} stk_str;

/**
 * Makes the app's instance, in each worker process, once, on its first thread, before it takes calls. It may take
 * long and start threads. `user` is the table's; what is stored through `instance` is what `call` and `close` get in
 * its place. Anything but STK_OK fails the boot of this worker; an error stored through `error` (see stk_error_new),
 * which the library then frees, says why. It must return; see stk_app_call_fn.
 */
typedef stk_status (*stk_app_init_fn)(uintptr_t user, uintptr_t *instance, stk_error **error);

/**
 * Runs one action, in a worker process, on one of its app threads, concurrently with itself if the pool has several
 * threads a worker. It may block.
 *
 * STK_OK sends what was put into `reply` (nothing is none). Anything else is an error of the call, and the worker lives on:
 * STK_BAD_REQUEST, STK_VALUE and STK_END tell the caller STK_BAD_REQUEST; STK_DEADLINE, STK_CANCELLED, STK_OVERLOADED,
 * STK_STALLED and STK_OVERRUN are what the caller has if that is what a function on `call`, its sink or its inbox said last;
 * all others are STK_APP. stk_reply_fail says why, or stk_reply_error, otherwise what such a function found wrong last is said,
 * if its status is what is returned. `call`, `reply` and what was read from them are valid until it returns. Functions on them
 * belong to this thread; bytes and text that were read may be looked at by others. No function on the call's sink or inbox, nor
 * one on an item of it, may still run on another thread when it returns: join that one first.
 *
 * It must return: an exception or pthread_exit that leaves it ends the worker, and the caller is told so
 * (STK_WORKER_DIED, signal 6); longjmp out of it is undefined. App threads have the stack that the soft limit of the
 * process says (ulimit -s), 2 to 64 MiB. A worker has the host's environment, directory, standard output and error and
 * signal mask, and /dev/null for standard input. Processes that it starts belong to it and are killed with it; one that it
 * forks must exec or _exit. A worker ignores SIGPIPE, and so do the programs that it starts, unless they
 * change it. It leaves without exit handlers; what was printed is flushed when it leaves in an orderly way, and lost when
 * it dies.
 */
typedef stk_status (*stk_app_call_fn)(uintptr_t user, const stk_call *call, stk_reply *reply);

/**
 * Called once before a worker leaves in an orderly way. One that is killed need not get to it. It must return; see
 * stk_app_call_fn.
 */
typedef void (*stk_app_close_fn)(uintptr_t user);

/**
 * User code that workers run. Zero it, then set `struct_size` and what you want.
 */
typedef struct {
    /**
     * sizeof(stk_app), in each element of an array.
     */
    size_t struct_size;
    /**
     * The name by which clients call it: zero-terminated UTF-8 of 1 to 255 bytes.
     */
    const char *name;
    /**
     * Handed to `init`, and to `call` and `close` where `init` stores nothing else.
     */
    uintptr_t user;
    /**
     * May be NULL.
     */
    stk_app_init_fn init;
    /**
     * Must be there.
     */
    stk_app_call_fn call;
    /**
     * May be NULL.
     */
    stk_app_close_fn close;
} stk_app;

/**
 * Takes one message: `level` is an STK_LOG_ number from STK_LOG_ERROR on, `target` the part of the library that
 * speaks (a Rust module), `message` text without a line feed at its end, of several lines where it has a backtrace. Both
 * last until the function returns.
 *
 * It is called on whatever thread the message comes from, by several at a time, and in three kinds of processes: in
 * the host, in the arbiter and in the workers (whose program is the same, and has called stk_init as well). The library
 * may hold locks meanwhile. Allowed in here: stk_error_…, stk_status_…, stk_version…, stk_str_…, stk_value_…,
 * stk_iter_next, stk_result_…, stk_args_…, stk_config_… and stk_lease_release. Nothing else is, nor what frees other objects;
 * what could block returns STK_REENTRANT, if it returns a status. It must return: no longjmp, no exception, no pthread_exit.
 */
typedef void (*stk_log_fn)(uintptr_t user, uint32_t level, stk_str target, stk_str message);

/**
 * What stk_init may be told. Zero it, then set `struct_size` and what you want.
 */
typedef struct {
    /**
     * sizeof(stk_init_options).
     */
    size_t struct_size;
    /**
     * Takes the library's messages; NULL for none.
     */
    stk_log_fn log;
    /**
     * Handed to `log` as it is. The same call of stk_init is made in the arbiter and the workers, whose memory is
     * another: it means there what it means to the program that was started again.
     */
    uintptr_t log_user;
    /**
     * The lowest level that is wanted: an STK_LOG_ number.
     */
    uint32_t log_level;
    /**
     * 0.
     */
    uint32_t reserved;
} stk_init_options;

/**
 * A value that somebody else owns: a result, or the arguments of a call. It is a view: copy it as you like, free
 * nothing; it is valid as long as its owner. One that is all zero bytes is a valid STK_KIND_NONE. Only this library writes
 * one.
 */
typedef struct {
    /**
     * What it is: STK_KIND_NONE, STK_KIND_BOOL, … May be read.
     */
    uint32_t kind;
    uint32_t reserved;
    uint64_t opaque[6];
} stk_value;

/**
 * Bytes that may be read: pointer and length, as stk_str. NULL with length 0 is no bytes.
 */
typedef struct {
    /**
     * The first byte.
     */
    const void *data;
    /**
     * How many bytes.
     */
    size_t len;
} stk_bytes;

/**
 * Shared memory in which a payload is built, to be lent instead of copied. A value: copy it as you like. It is held
 * until it is released (once; a second time is STK_STALE_LEASE) or given away.
 *
 * `data` has `size` bytes, which may be written until the lease was first sent; from then on workers read them where they
 * lie, and it may be written again only when stk_lease_writable says so: after a result was freed, soon; after a deadline
 * or damage a worker may go on reading it for seconds. (To fill another one is always right.) A lease of size 0 has no
 * bytes.
 *
 * It belongs to its client, and to that client's shared memory: when that was found damaged and has been replaced
 * (STK_PROTOCOL), its leases are refused as arguments (STK_BAD_REQUEST) and are to be made anew.
 */
typedef struct {
    /**
     * The first byte, aligned to 64.
     */
    void *data;
    /**
     * How many bytes.
     */
    size_t size;
    /**
     * Which lease of this process it is. 0 is none.
     */
    uint64_t id;
} stk_lease;

/**
 * Gets the handle of a deferred call, in a worker process, on the thread that ran the app's function, once that has
 * returned STK_OK. Another thread answers it, or this one here and now. It must return; see stk_app_call_fn.
 */
typedef void (*stk_deferred_fn)(uintptr_t user, stk_deferred *deferred);

/**
 * How much of a stream may be on its way, and what happens when it is more. Zero it, then set `struct_size` and what you want.
 */
typedef struct {
    /**
     * sizeof(stk_flow).
     */
    size_t struct_size;
    /**
     * At most so many items that the caller has not freed; 0 for 1,024. What fits into the ring's 32 KiB is a bound as well.
     */
    uint64_t items;
    /**
     * At most so many bytes of leases and large items (see stk_sink_send) that the caller has not freed; 0 for 8 MiB. An item
     * that is larger goes alone.
     */
    uint64_t bytes;
    /**
     * 1: stk_sink_send does not wait for room, but says STK_OVERRUN.
     */
    uint32_t or_fail;
    /**
     * 0.
     */
    uint32_t reserved;
} stk_flow;

/**
 * What a call may be told. Zero it, then set `struct_size` and what you want.
 */
typedef struct {
    /**
     * sizeof(stk_options).
     */
    size_t struct_size;
    /**
     * The call ends with STK_DEADLINE this many milliseconds from now, whether it waits or runs; 0 for none of its own.
     * A worker that does not let go of an expired call is replaced. The pool's own limit holds as well.
     */
    uint64_t deadline_ms;
    /**
     * The call ends with STK_DEADLINE, and its app never sees it, if no worker has taken it this many milliseconds from now;
     * 0 for no such limit.
     */
    uint64_t queue_ms;
    /**
     * For streams: the call ends with STK_DEADLINE if the next item has not come this many milliseconds after it was asked
     * for; 0 for no such limit.
     */
    uint64_t item_ms;
    /**
     * 1: it may run twice, and is sent once more if its worker dies or shared memory is found damaged.
     */
    uint32_t idempotent;
    /**
     * 0.
     */
    uint32_t reserved;
} stk_options;

/**
 * How one call ended, or an item of one that goes on.
 */
typedef struct {
    /**
     * What it was submitted with.
     */
    uint64_t token;
    /**
     * Its result, or the item, yours to free; NULL unless `status` is STK_OK.
     */
    stk_result *result;
    /**
     * What is known of its failure, yours to free; NULL if `status` is STK_OK.
     */
    stk_error *error;
    /**
     * Its outcome: STK_OK, or STK_APP to STK_OVERRUN, or STK_OS. STK_OK for an item.
     */
    stk_status status;
    /**
     * 1: an item of a stream, and further ones with this token follow, or its end. 0: the call has ended.
     */
    uint32_t more;
} stk_completion;

/**
 * A walk over a list or a dict. Like a value it owns nothing and is valid as long as what it walks over; one that is
 * all zero bytes has ended. Only this library writes one.
 */
typedef struct {
    uint32_t kind;
    uint32_t reserved;
    uint64_t opaque[8];
} stk_iter;

/**
 * It worked. Outputs are written then, and only then.
 */
#define STK_OK 0

/**
 * The app returned an error or panicked; its worker lives on.
 */
#define STK_APP 1

/**
 * The worker that had the call died. `stk_error_cause` says why.
 */
#define STK_WORKER_DIED 2

/**
 * A limit of the call's time passed. `stk_error_limit` says which.
 */
#define STK_DEADLINE 3

/**
 * Somebody cancelled the call. `stk_error_cancelled_by` says who.
 */
#define STK_CANCELLED 4

/**
 * A bound was reached: calls in flight, bytes, records. `stk_error_bound` says which.
 */
#define STK_OVERLOADED 5

/**
 * Nobody will come to run it: the pool is degraded, or has no workers.
 */
#define STK_NO_WORKERS 6

/**
 * The call could not be understood: unknown app or action, wrong arguments, too large.
 */
#define STK_BAD_REQUEST 7

/**
 * Shared state was found damaged; the call may or may not have run.
 */
#define STK_PROTOCOL 8

/**
 * The supervising process, the arbiter, died.
 */
#define STK_ARBITER_DIED 9

/**
 * The pool is being closed, or was.
 */
#define STK_SHUTTING_DOWN 10

/**
 * Nobody took anything from a stream for longer than the pool allows; it was ended for that. `stk_error_stalled_ms` says
 * how long.
 */
#define STK_STALLED 11

/**
 * A stream that fails where others wait was full. `stk_error_bound` says how much it holds.
 */
#define STK_OVERRUN 12

/**
 * Nobody takes what is sent any more: the call has ended, or the direction was finished. Not an outcome of a call.
 */
#define STK_CLOSED 13

/**
 * A pool could not be started, or a worker could not boot.
 */
#define STK_START 100

/**
 * A peer speaks another version, layout or build.
 */
#define STK_INCOMPATIBLE 101

/**
 * The handle was used in a forked copy of the process that made it.
 */
#define STK_FORKED 102

/**
 * The process has more than one thread where one is needed.
 */
#define STK_THREADS 103

/**
 * The configuration is wrong.
 */
#define STK_CONFIG 104

/**
 * A value has another type, or is out of range, for what was asked of it.
 */
#define STK_VALUE 200

/**
 * A frame or its body is malformed.
 */
#define STK_FRAME 201

/**
 * A system call failed. `stk_error_errno` says how.
 */
#define STK_OS 300

/**
 * An argument of the function itself makes no sense: NULL where something must be, a number that means nothing, text
 * that is not UTF-8, a struct of an unknown size.
 */
#define STK_INVALID 400

/**
 * The lease was released, was given away, or never was.
 */
#define STK_STALE_LEASE 401

/**
 * There is nothing (more) there: the end of a list or a stream, a key that is not in the dict. No error object comes with it.
 */
#define STK_END 402

/**
 * This function may not be called from within a log callback.
 */
#define STK_REENTRANT 403

/**
 * This library has a bug: it panicked. The handle that was used refuses everything but being freed from now on.
 */
#define STK_PANIC 404

/**
 * A call still carries the lease: its bytes must not be written.
 */
#define STK_LENT 405

/**
 * The outcome of the call, or the next item, is not there yet. No error object comes with it.
 */
#define STK_PENDING 406

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the library that the program runs with: major * 1000000 + minor * 1000 + patch. May be called from
 * anywhere.
 */
uint32_t stk_version(void);

/**
 * The same as text, such as "0.1.0". A constant that lives for ever. May be called from anywhere.
 */
const char *stk_version_text(void);

/**
 * The name of a status, such as "STK_WORKER_DIED". A constant that lives for ever; "unknown status" for a number that
 * is none. May be called from anywhere.
 */
const char *stk_status_name(stk_status status);

/**
 * What a status means, in a few words: for functions that hand out no `stk_error`. A constant that lives for ever. May
 * be called from anywhere.
 */
const char *stk_status_text(stk_status status);

/**
 * The text of a zero-terminated string; the empty text for NULL. It lasts as long as the string.
 */
stk_str stk_str_from(const char *string);

/**
 * Whether two texts have the same bytes. For choosing an action: `stk_str_eq(action, STK_STR("add"))`.
 */
bool stk_str_eq(stk_str a, stk_str b);

/**
 * An error of an app's own, with a class of its choice ("ModelMissing") and a message: for what an app's `init` stores, and
 * for stk_reply_error.
 * NULL if a text is not UTF-8.
 */
stk_error *stk_error_new(stk_str class_name,
                         stk_str message);

/**
 * Frees it. NULL is nothing.
 */
void stk_error_free(stk_error *error);

/**
 * The status that the failed function returned. STK_OK for NULL.
 */
stk_status stk_error_status(const stk_error *error);

/**
 * What happened, which value, which limit: for people. Zero-terminated UTF-8, which lasts as long as the error; "" for
 * NULL.
 */
const char *stk_error_message(const stk_error *error);

/**
 * The class of an app's error: what the app chose, or "Panic". "" where there is none.
 */
const char *stk_error_class(const stk_error *error);

/**
 * The backtrace of an app's error, many lines. "" where there is none.
 */
const char *stk_error_traceback(const stk_error *error);

/**
 * The app in which an app's error arose. Its worker's process and number (no other worker of its pool has that at the same
 * time) are stored through `pid` and `life`, unless these are NULL. "", 0 and 0 where it is not known.
 */
const char *stk_error_source(const stk_error *error,
                             uint32_t *pid,
                             uint16_t *life);

/**
 * How many workers passed an app's error on, each to its own caller: at most 8 are known.
 */
size_t stk_error_relay_count(const stk_error *error);

/**
 * The app that passed the error on as number `index`, from 0, counted from the source; the rest is as with
 * stk_error_source.
 */
const char *stk_error_relay(const stk_error *error, size_t index, uint32_t *pid, uint16_t *life);

/**
 * Whether the app had begun with the call: 0 it certainly never saw it (send it again without risk), 1 a worker had
 * taken it (it may have done all of its work, some or none), -1 it cannot be known, or there was nothing to begin.
 */
int32_t stk_error_started(const stk_error *error);

/**
 * The process id of the worker that died; 0 where that is not known or none did.
 */
uint32_t stk_error_worker_pid(const stk_error *error);

/**
 * Why the worker died: an STK_CAUSE_ number. Its exit status or signal is stored through `detail`, unless that is NULL.
 */
uint32_t stk_error_cause(const stk_error *error, int32_t *detail);

/**
 * Which bound was reached: an STK_BOUND_ number. How much of it there is is stored through `limit`, unless that is
 * NULL.
 */
uint32_t stk_error_bound(const stk_error *error, uint64_t *limit);

/**
 * Which limit of time passed: an STK_LIMIT_ number.
 */
uint32_t stk_error_limit(const stk_error *error);

/**
 * Who cancelled the call: an STK_BY_ number.
 */
uint32_t stk_error_cancelled_by(const stk_error *error);

/**
 * For how many milliseconds nobody took anything from the stream that was ended for it; 0 where that is not what
 * happened.
 */
uint64_t stk_error_stalled_ms(const stk_error *error);

/**
 * The `errno` of the system call that failed; 0 where none did.
 */
int32_t stk_error_errno(const stk_error *error);

/**
 * Writes "stokehold: " and the message to standard error, and returns 1: `return stk_error_print(e);` ends a small
 * `main`. Frees nothing; NULL prints nothing and returns 1.
 */
int32_t stk_error_print(const stk_error *error);

/**
 * Registers the program's apps: the first statement of `main`.
 *
 * In the host it registers and returns. stk_pool_start runs this same program once more, with the same environment and
 * no arguments; in that copy stk_init becomes the pool's supervising process and DOES NOT RETURN. So what stands before
 * it in `main` runs in both: no threads, no files, no output there.
 *
 * The tables are copied; their names must be UTF-8 of 1 to 255 bytes, each once, at most 256. `apps` may be NULL with
 * `n` 0, for a host whose apps are in a helper program. `options` may be NULL. Once a process.
 *
 * STK_INVALID for tables and options that make no sense; STK_CONFIG when it is called twice, or the process has a logger of
 * Rust's already. In the copy that becomes the supervising process it does not return to say so: stk_pool_start has its
 * message.
 */
STK_MUST_USE
stk_status stk_init(const stk_app *apps,
                    size_t n,
                    const stk_init_options *options,
                    stk_error **error);

/**
 * The name by which the app was called. It lasts as long as the call, and is empty for NULL.
 */
stk_str stk_call_app(const stk_call *call);

/**
 * The action that is asked for. It lasts as long as the call, and is empty for NULL.
 */
stk_str stk_call_action(const stk_call *call);

/**
 * Refuses an action that the app does not have: for the end of a chain of stk_str_eq. Returns STK_BAD_REQUEST, which
 * the app returns in its turn.
 */
stk_status stk_call_no_action(const stk_call *call);

/**
 * How many positional arguments there are. 0 for NULL.
 */
size_t stk_call_len(const stk_call *call);

/**
 * The positional argument `i`, from 0. It lasts as long as the call. STK_VALUE if it was not given. Walks there: to
 * see many, use stk_call_args.
 */
stk_status stk_call_arg(const stk_call *call, size_t i, stk_value *value);

/**
 * All positional arguments, as a list.
 */
stk_status stk_call_args(const stk_call *call, stk_value *list);

/**
 * All named arguments, as a dict.
 */
stk_status stk_call_named_args(const stk_call *call, stk_value *dict);

/**
 * The argument of this name. STK_END if it was not given.
 */
stk_status stk_call_named(const stk_call *call, stk_str name, stk_value *value);

/**
 * The positional argument `i`, from 0, which must be a truth value. STK_VALUE if it is something else or was not given.
 */
stk_status stk_call_bool(const stk_call *call, size_t i, bool *out);

/**
 * The same for an integer.
 */
stk_status stk_call_i64(const stk_call *call, size_t i, int64_t *out);

/**
 * The same for a number; an integer becomes one if there is one that is equal to it.
 */
stk_status stk_call_f64(const stk_call *call, size_t i, double *out);

/**
 * The same for text.
 */
stk_status stk_call_str(const stk_call *call, size_t i, stk_str *out);

/**
 * The same for bytes. Those of a lease are the caller's memory, not a copy: read, never write.
 */
stk_status stk_call_bytes(const stk_call *call, size_t i, stk_bytes *out);

/**
 * Memory of `size` bytes in which a result is built, which the caller will read in place: fill it, then give it to
 * stk_reply_lease. Not cleared; aligned to 64 bytes. What is not given away is released when the call ends.
 *
 * STK_BAD_REQUEST past 1 GiB; STK_OVERLOADED past what a worker has for one client, with the results that it holds
 * (1 GiB and 64 MiB), or for all (4.25 GiB); STK_OS when the memory file system is full. An app that returns the
 * former makes it the caller's outcome.
 */
stk_status stk_call_lease(const stk_call *call, size_t size, stk_lease *lease);

/**
 * A client for calls that the app makes of apps of its own pool, itself included, in the call that it is in: for stk_args_new,
 * stk_execute, stk_submit, stk_stream_open and stk_context_open. They run on other app threads, of this worker or another. It
 * belongs to the call, and is gone when the app's function returns; until then any thread may use it. It is not to be freed,
 * and has no leases and no completions (STK_INVALID; those of other clients are STK_BAD_REQUEST). NULL for NULL.
 *
 *     client = stk_call_client(call);
 *     args = stk_args_new(client);
 *     stk_args_push_i64(args, n);
 *     if (stk_execute(client, STK_STR("sums"), STK_STR("add"), args, NULL, &result, &e)) return stk_reply_error(reply, e);
 *
 * What is called belongs to the call as well: it ends with STK_DEADLINE when that one's deadline passes, if it has none that
 * is earlier, and with STK_CANCELLED (STK_BY_PARENT) within 200 ms after that one was cancelled, or ended. Such calls may be
 * nested 8 deep: past that they are STK_BAD_REQUEST, and so are stk_execute and stk_context_open where the calls in which they
 * are made hold all app threads of the pool, so that they could never run.
 *
 * An app thread that waits is one less for others. Where all of a pool's wait for calls that are still in the queue, none of
 * these runs before some caller's deadline: have more threads than such calls, a limit (`queue_ms`), or stk_submit and answer
 * later (stk_call_defer).
 *
 * The first one of a worker connects it to its pool, for which it asks the arbiter, for at most 30 seconds; STK_OVERLOADED or
 * STK_OS when it cannot. All threads of a worker share that connection: 64 calls in flight.
 */
const stk_client *stk_call_client(const stk_call *call);

/**
 * When the caller stops waiting: nanoseconds of CLOCK_MONOTONIC; 0 if it will not.
 */
uint64_t stk_call_deadline_ns(const stk_call *call);

/**
 * STK_OK while somebody waits for the result, STK_DEADLINE after that. For work that can stop half-way: return it.
 */
stk_status stk_call_check_deadline(const stk_call *call);

/**
 * Says that the app is at work on the call: the pool's timeout counts from now. A deadline that the caller itself set is
 * its own, and holds. Cheap: no system call.
 */
stk_status stk_call_keep_alive(const stk_call *call);

/**
 * Whether nobody waits for this call any more: it was cancelled, its caller saw its deadline pass, or its client is gone. All
 * three look the same. For work that can stop half-way; one look at a word of memory. An app that goes on regardless costs
 * its worker: see stk_config_set_cancel_grace_ms. True for NULL.
 */
bool stk_call_is_cancelled(const stk_call *call);

/**
 * Sleeps until nobody waits for this call any more, but no longer than this; whether that is so. What an app does instead of
 * a plain sleep. Does not sleep for NULL, nor where there is no call.
 */
bool stk_call_wait_cancelled(const stk_call *call,
                             uint64_t timeout_ms);

/**
 * Answers with nothing, Python's None.
 */
stk_status stk_reply_none(stk_reply *reply);

/**
 * Answers with a truth value.
 */
stk_status stk_reply_bool(stk_reply *reply, bool value);

/**
 * Answers with an integer.
 */
stk_status stk_reply_i64(stk_reply *reply, int64_t value);

/**
 * Answers with a number.
 */
stk_status stk_reply_f64(stk_reply *reply, double value);

/**
 * Answers with a copy of text. STK_INVALID if it is not UTF-8.
 */
stk_status stk_reply_str(stk_reply *reply, stk_str text);

/**
 * Answers with a copy of `len` bytes. What is large is better built in place: stk_call_lease, stk_reply_lease.
 */
stk_status stk_reply_bytes(stk_reply *reply, const void *data, size_t len);

/**
 * Answers with the first `len` bytes of a lease of this call (`lease.size` for all of them), which is given away: it is
 * stale from then on, and must not be written any more. The caller reads it where it lies. Only the whole answer can be
 * a lease, not a value within a list.
 *
 * STK_STALE_LEASE if it is not held; STK_INVALID if it is of another call, or `len` more than it has.
 */
stk_status stk_reply_lease(stk_reply *reply, stk_lease lease, size_t len);

/**
 * Begins a list: what is put in until stk_reply_end is in it.
 */
stk_status stk_reply_begin_list(stk_reply *reply);

/**
 * Begins a dict: pairs of stk_reply_key and a value, until stk_reply_end.
 */
stk_status stk_reply_begin_dict(stk_reply *reply);

/**
 * The key of the next value of a dict.
 */
stk_status stk_reply_key(stk_reply *reply, stk_str key);

/**
 * Ends the innermost list or dict.
 */
stk_status stk_reply_end(stk_reply *reply);

/**
 * Fails the call with a class of the app's choice ("OutOfCoal") and a message; what was put in before is forgotten.
 * Returns STK_APP, which the app returns in its turn (STK_INVALID if a text is not UTF-8); an app that returns
 * STK_BAD_REQUEST instead tells the caller that, with class and message for its text.
 */
stk_status stk_reply_fail(stk_reply *reply, stk_str class_name, stk_str message);

/**
 * Fails the call with an error that a function gave, that of a call which the app made (stk_call_client) for example: the
 * caller has its class, its message and where it arose, with this app as one that passed it on (stk_error_source,
 * stk_error_relay). The outcome of another call than this one is STK_APP to the caller, with its name for the class
 * ("WorkerDied"). What was put in before is forgotten. `error` is consumed, whatever is returned. Returns STK_APP, which the
 * app returns in its turn (STK_INVALID for NULL).
 */
stk_status stk_reply_error(stk_reply *reply,
                           stk_error *error);

/**
 * Answers the call later: the thread takes the next one. In place of a value in `reply`; return STK_OK then, and `then` is
 * called with `user` and the handle. Where the app returns anything else, `then` is never called, and `user` stays yours.
 *
 * What is to be kept of the arguments must be copied, or read once more from the handle (stk_deferred_args).
 * STK_OVERLOADED when this worker has deferred 128 calls; an app that returns that tells its caller STK_APP, class
 * "Overloaded".
 */
stk_status stk_call_defer(const stk_call *call,
                          stk_reply *reply,
                          uintptr_t user,
                          stk_deferred_fn then);

/**
 * Where the answer is put together, with the functions of a reply. It belongs to the handle.
 */
stk_reply *stk_deferred_reply(stk_deferred *deferred);

/**
 * Answers the call and consumes the handle: with STK_OK what was put into its reply, otherwise as if the app's function had
 * returned this status. Wakes the caller; does not block. NULL is STK_INVALID.
 */
stk_status stk_deferred_answer(stk_deferred *deferred,
                               stk_status status);

/**
 * Lets go of the call without an answer: its caller has STK_APP, class "Dropped". NULL is nothing.
 */
void stk_deferred_free(stk_deferred *deferred);

/**
 * All positional arguments once more, as a list. What the caller lent is read in its memory. They last until the call is
 * answered.
 */
stk_status stk_deferred_args(const stk_deferred *deferred,
                             stk_value *list);

/**
 * All named arguments once more, as a dict.
 */
stk_status stk_deferred_named_args(const stk_deferred *deferred, stk_value *dict);

/**
 * Memory for the result, as stk_call_lease; for stk_reply_lease on this handle's reply. What is not given away is released
 * with the handle.
 */
stk_status stk_deferred_lease(stk_deferred *deferred,
                              size_t size,
                              stk_lease *lease);

/**
 * Says that the app is at work on the call: the pool's timeout counts from now. A deadline that the caller itself set is
 * its own, and holds. Cheap: no system call.
 */
stk_status stk_deferred_keep_alive(const stk_deferred *deferred);

/**
 * Whether nobody waits for the answer any more. One look at a word of memory. True for NULL.
 */
bool stk_deferred_is_cancelled(const stk_deferred *deferred);

/**
 * When the caller stops waiting: nanoseconds of CLOCK_MONOTONIC; 0 if it will not.
 */
uint64_t stk_deferred_deadline_ns(const stk_deferred *deferred);

/**
 * Announces to the caller that the call answers with a stream, and gives the way for its items. `flow` may be NULL. A call has
 * one sink: a second time it is the same one, and `flow` is not looked at. What is put into the call's reply in the end is
 * what the stream's consumer has behind the items (stk_stream_value); nothing put in is nothing. Such a call cannot be
 * deferred.
 *
 * STK_OVERLOADED if the worker has no memory for a stream.
 */
stk_status stk_call_sink(const stk_call *call,
                         const stk_flow *flow,
                         stk_sink **sink);

/**
 * Where the next item is put together, with the functions of a reply: a value, or a lease of this call (stk_call_lease,
 * stk_reply_lease), which the caller reads where it lies. The same pointer each time; it belongs to the sink. NULL for NULL.
 * An item cannot fail or be deferred: stk_reply_fail and stk_call_defer are for the call's own reply.
 */
stk_reply *stk_sink_item(stk_sink *sink);

/**
 * Sends what was put into stk_sink_item, which is empty then, whatever is returned (but STK_REENTRANT); nothing put in is the
 * item none. Blocks while there is no room, without spinning, unless the stream is one that fails instead. An item is a large
 * one if its encoding has more than 448 bytes, some twenty of which are not its own: it takes memory of its own.
 *
 * STK_CANCELLED once nobody waits for the call any more, which also ends the wait; STK_STALLED if the caller freed no item for
 * longer than the pool's limit (stk_config_set_stall_ms); STK_OVERRUN if there is no room and the stream does not wait: the
 * item is not sent, further ones may be; for a large item STK_OVERLOADED if there is no memory and STK_BAD_REQUEST past 1 GiB.
 * An app that returns one of these makes it the call's outcome, behind the items that were sent. STK_CLOSED after
 * stk_sink_finish; STK_OS when the memory file system is full; STK_PROTOCOL if the caller's memory is damaged; STK_INVALID if a
 * function on the item failed.
 */
stk_status stk_sink_send(stk_sink *sink);

/**
 * No further item comes from the app: what its caller takes ends there, with STK_END, and the call goes on. What is sent
 * afterwards is STK_CLOSED. A second time it changes nothing. Does not block.
 */
stk_status stk_sink_finish(stk_sink *sink);

/**
 * Starts the context that the caller has opened (stk_context_open), once a call: the opener has what was put into `reply`
 * before anything else (nothing put in is none; a lease is copied), and items may go both ways. `reply` is empty then, for
 * what the app returns in the end, and also where this fails, but for a bad pointer and STK_REENTRANT. `sink` is the
 * way to the opener, and the one that stk_call_sink gives from now on; `inbox` is what the opener sends. Does not block, except
 * to fetch memory of the opener that is met for the first time.
 *
 * Each direction is bounded by itself: at most 1,024 items, 32 KiB of small ones and 8 MiB of large ones (see stk_sink_send)
 * are on their way. The two ends live together until the app returns: that the opener cancels, leaves or dies ends what the
 * app waits for with STK_CANCELLED.
 *
 * STK_BAD_REQUEST if the caller has opened no context; STK_APP if the call has a sink already, or the worker cannot get at the
 * opener's memory, for want of descriptors or memory; STK_CANCELLED if nobody waits for the call any more; STK_OVERLOADED if
 * the worker has no memory for a stream. An app that returns one of them makes it the call's outcome. STK_PROTOCOL if the
 * opener's memory is damaged; STK_OS when the memory file system is full; STK_INVALID if a function on `reply` failed.
 */
stk_status stk_call_started(const stk_call *call,
                            stk_reply *reply,
                            stk_sink **sink,
                            stk_inbox **inbox);

/**
 * Waits for the opener's next item, for at most `timeout_ms`: 0 looks and does not wait, except to fetch memory of the opener
 * that is met for the first time, STK_FOREVER waits as long as it takes. STK_OK: an item, stored through `result` (NULL: it is
 * let go of), which any thread may read and free; what is not freed is freed when the app's function returns, and not to be
 * used any more. What the opener lent is read in its memory and must be freed to make room for further ones; the rest was
 * copied. STK_END: the opener has finished its direction. STK_PENDING: neither yet.
 *
 * STK_CANCELLED once nobody waits for the call any more, which also ends the wait: an app that returns it makes it the call's
 * outcome. STK_APP if the worker cannot get at an item in the opener's memory, for want of descriptors or memory; STK_PROTOCOL
 * if that is damaged: the item is lost, and nothing comes after either but the same once more. Blocks the calling thread, and
 * no other. A thread of the app's own that is in here when the app's function is to return must be waited for: let it receive
 * with a limit, and join it.
 */
stk_status stk_inbox_next(stk_inbox *inbox,
                          uint64_t timeout_ms,
                          stk_result **result);

/**
 * A configuration with all defaults: one worker, all apps of stk_init. May be called from anywhere.
 */
stk_config *stk_config_new(void);

/**
 * Frees a configuration that no pool was started from. NULL is nothing.
 */
void stk_config_free(stk_config *config);

/**
 * With this app. Without any, the pool has all that were given to stk_init; a pool with a helper program names those
 * it wants.
 */
stk_status stk_config_add_app(stk_config *config, stk_str name);

/**
 * With the apps of a shared object, made with STK_APP_LIBRARY or in Rust with `stokehold::app_library!`: all of them, or
 * those that stk_config_add_app names. Workers load it, and run nothing of this program; the supervising process does not
 * load it. `path` is UTF-8; one that is not absolute begins at the current directory.
 */
stk_status stk_config_set_app_library(stk_config *config,
                                      stk_str path);

/**
 * How many worker processes; 1 by default, at most 64 (with 0, calls end with STK_NO_WORKERS). Calls wait while all are busy,
 * and their deadlines run.
 */
stk_status stk_config_set_workers(stk_config *config,
                                  size_t workers);

/**
 * How many calls one worker runs at a time; 1 by default. Workers times threads is at most 128.
 */
stk_status stk_config_set_threads(stk_config *config, size_t threads);

/**
 * How workers and this host's clients wait: an STK_WAIT_ number.
 */
stk_status stk_config_set_wait(stk_config *config, uint32_t wait);

/**
 * Longest time of any call, milliseconds; 300,000 by default, 0 for no limit. A call's own deadline may be shorter.
 */
stk_status stk_config_set_timeout_ms(stk_config *config, uint64_t ms);

/**
 * How long the consumer of a stream may take nothing while the worker waits for room, milliseconds; 30,000 by default, 0 for
 * no limit. Then the stream ends with STK_STALLED, and the worker is free.
 */
stk_status stk_config_set_stall_ms(stk_config *config,
                                   uint64_t ms);

/**
 * The signal that a call gets which was given up (cancelled, its deadline passed, its client gone) and is still run after
 * stk_config_set_cancel_grace_ms; by default there is none. For apps that block in the kernel and cannot ask
 * stk_call_is_cancelled.
 *
 * It goes to the thread that runs the call, while it runs it, so that a blocking system call of it ends with EINTR (of a
 * handler that was installed without SA_RESTART); to the whole process where the call is deferred, or the worker's control
 * thread does not answer. The handler is the app's to install, in its `init`: without one the default action applies, which
 * ends the worker for most signals. SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGURG, SIGVTALRM, SIGPROF,
 * SIGWINCH, SIGIO or SIGPWR; the start of the pool refuses others.
 */
stk_status stk_config_set_cancel_signal(stk_config *config,
                                        int32_t number);

/**
 * How long a worker may go on with a call that was given up until it gets the pool's signal or, where there is none, takes no
 * more calls and is replaced. Milliseconds; 1,000 by default, and up to half a second more until it is noticed.
 */
stk_status stk_config_set_cancel_grace_ms(stk_config *config,
                                          uint64_t ms);

/**
 * How long a worker may go on with a call after the signal until it is replaced, milliseconds; 1,000 by default.
 */
stk_status stk_config_set_signal_grace_ms(stk_config *config, uint64_t ms);

/**
 * How long a worker that is replaced may go on with a call that nobody waits for any more before it is killed, milliseconds;
 * 1,000 by default. Other calls of its have that time, too.
 */
stk_status stk_config_set_kill_grace_ms(stk_config *config,
                                        uint64_t ms);

/**
 * How long workers may take to finish what they run when the pool is stopped, milliseconds; 30,000 by default.
 */
stk_status stk_config_set_stop_grace_ms(stk_config *config, uint64_t ms);

/**
 * How long a worker may take to become ready, milliseconds; 60,000 by default.
 */
stk_status stk_config_set_boot_timeout_ms(stk_config *config, uint64_t ms);

/**
 * How long stk_pool_start waits for the pool to be ready, milliseconds; 60,000 by default, or ten seconds more than the
 * boot timeout where that is longer.
 */
stk_status stk_config_set_start_timeout_ms(stk_config *config, uint64_t ms);

/**
 * More than `restarts` early deaths within `within_ms` milliseconds degrade the pool: calls fail at once
 * (STK_NO_WORKERS) until a worker is ready again. 5 in 10,000 by default.
 */
stk_status stk_config_set_restart_limit(stk_config *config, uint32_t restarts, uint64_t within_ms);

/**
 * First and longest pause before a worker that died early is started again, milliseconds; 100 and 10,000 by default.
 */
stk_status stk_config_set_backoff_ms(stk_config *config, uint64_t first, uint64_t longest);

/**
 * With a helper program as the arbiter instead of this one, for hosts that cannot call stk_init first (plug-ins, other
 * languages): the path (any bytes; PATH is not searched) of a program whose `main` begins with stk_init (or with
 * `stokehold::init`, in Rust) and registers the apps. Name those that the pool has with stk_config_add_app. The host needs no
 * stk_init then.
 */
stk_status stk_config_set_helper(stk_config *config,
                                 stk_str program);

/**
 * By a plain fork of this process, which must have one thread. For tools, tests and small programs: the arbiter and its
 * workers drag this process's memory along. Of its descriptors they have the standard ones and those named with
 * stk_config_keep_fd. stk_pool_start flushes stdio's buffers before it.
 */
stk_status stk_config_set_fork(stk_config *config);

/**
 * A descriptor, open until the start, that stays open in the arbiter and the workers of a pool that is started by
 * stk_config_set_fork: that of a log file, for instance. Elsewhere it means nothing.
 */
stk_status stk_config_keep_fd(stk_config *config, int32_t fd);

/**
 * Starts a pool and waits until all its workers are ready. `config` is consumed, whatever is returned; NULL is all
 * defaults. From any thread (one that asks for a fork: from the process's only thread), but not while another thread
 * changes the environment (setenv), which it reads. All processes of a pool are programs of one user that use this
 * library and trust each other as the header's top says. A standard descriptor (0 to 2) that is closed is opened on
 * /dev/null, here and in stk_client_connect.
 *
 * STK_CONFIG for settings that cannot be; STK_START when the program cannot be run, does not know an app, or a worker
 * cannot boot (the message says what it said); STK_THREADS when a fork is asked for in a process with several threads.
 */
STK_MUST_USE stk_status stk_pool_start(stk_config *config, stk_pool **pool, stk_error **error);

/**
 * Makes this process the supervisor of a pool that is served under `path` (any bytes), until SIGTERM or SIGINT tells it to
 * end: what `stokehold serve` does, for a program with apps of its own. Clients join with stk_client_connect_path. `config`
 * is consumed, whatever is returned; NULL is all defaults. After stk_init, in a process with one thread.
 *
 * The directory of the path must be this user's with rights 700; it is made if its own is there. Beside the socket are
 * PATH.lock and PATH.pid, which go with it in the end; what a process that was killed left there is replaced. The first
 * signal lets workers finish what they run, within the grace that was configured, the second kills what is left; SIGHUP is
 * ignored. Workers that cannot boot do not end it: the pool is degraded and goes on trying. Files that are open stay
 * open in the workers.
 *
 * Returns STK_OK when nothing is left of the pool. The program is expected to end then: standard input is /dev/null,
 * SIGTERM, SIGINT and SIGHUP are blocked, SIGPIPE and SIGXFSZ ignored, SIGCHLD is at its default. STK_CONFIG for
 * settings, a path or a directory that cannot be; STK_START when the path is served already; STK_THREADS when the process
 * has several.
 */
STK_MUST_USE
stk_status stk_pool_serve(stk_config *config,
                          stk_str path,
                          stk_error **error);

/**
 * Stops the pool: it takes nothing more, refuses what is queued (STK_SHUTTING_DOWN), lets workers finish what they run
 * within the grace that was configured, then kills them. Blocks until all processes are gone; a second
 * stk_pool_stop waits as well. The handle is still to be freed.
 */
stk_status stk_pool_stop(const stk_pool *pool, stk_error **error);

/**
 * The same without grace: what runs ends with its worker. Also while another thread is in stk_pool_stop, whose grace it
 * ends.
 */
stk_status stk_pool_kill(const stk_pool *pool, stk_error **error);

/**
 * Frees the pool. One that was not stopped is killed; this waits up to five seconds for its end. NULL is nothing.
 */
void stk_pool_free(stk_pool *pool);

/**
 * The process id of the arbiter, also when it is gone. 0 for NULL.
 */
uint32_t stk_pool_arbiter_pid(const stk_pool *pool);

/**
 * A new client of this pool. One serves all threads of a process; more are needed only past 64 calls at a time.
 *
 * Asks the arbiter, for at most 30 seconds. STK_ARBITER_DIED; STK_SHUTTING_DOWN when it was stopped; STK_OVERLOADED when
 * the pool has 1,024 clients.
 */
STK_MUST_USE
stk_status stk_client_new(const stk_pool *pool,
                          stk_client **client,
                          stk_error **error);

/**
 * The socket of a new client, to be handed to another process of this user (inherited, or sent over a Unix socket),
 * which joins the pool with stk_client_connect. Yours to close. It is closed on exec: clear FD_CLOEXEC in the child, after
 * fork.
 */
stk_status stk_pool_client_fd(const stk_pool *pool,
                              int32_t *fd,
                              stk_error **error);

/**
 * Joins the pool of another process over a socket that its stk_pool_client_fd made, each for one client. Needs no
 * stk_init. The descriptor is duplicated: yours
 * to close, whatever is returned. `wait` is an STK_WAIT_ number: how this client's threads wait. Asks the arbiter, for at
 * most 30 seconds.
 */
STK_MUST_USE
stk_status stk_client_connect(int32_t fd,
                              uint32_t wait,
                              stk_client **client,
                              stk_error **error);

/**
 * Joins the pool that is served under this path (any bytes): by `stokehold serve`, or by a program in stk_pool_serve.
 * Needs no stk_init. `wait` as above. Blocks for at most 10 seconds until it is let in, and 30 until the arbiter has
 * answered.
 *
 * STK_OS when nobody listens there, or you may not connect; STK_INCOMPATIBLE when the pool is another user's or of another
 * version; STK_OVERLOADED, or STK_START, when there is no room for one more client.
 */
STK_MUST_USE
stk_status stk_client_connect_path(stk_str path,
                                   uint32_t wait,
                                   stk_client **client,
                                   stk_error **error);

/**
 * Closes the connection, when the last result and the last call of it are gone, too. NULL is nothing.
 */
void stk_client_free(stk_client *client);

/**
 * The process ids of the workers that are ready; STK_INVALID for the client of a call (stk_call_client). Up to `capacity` are
 * stored through `pids` (NULL with 0 is fine), how many there are through `n`. None in a copy by fork.
 */
stk_status stk_client_worker_pids(const stk_client *client,
                                  uint32_t *pids,
                                  size_t capacity,
                                  size_t *n);

/**
 * Arguments for one call of this client (in an app: stk_call_client), none so far. Never NULL; with NULL for `client` they are
 * refused by stk_execute. (They are put together in memory of the process's own at present; leases must be this client's.)
 */
stk_args *stk_args_new(const stk_client *client);

/**
 * Frees arguments that were not sent. NULL is nothing.
 */
void stk_args_free(stk_args *args);

/**
 * Puts in nothing, Python's None.
 */
stk_status stk_args_push_none(stk_args *args);

/**
 * Puts in a truth value.
 */
stk_status stk_args_push_bool(stk_args *args, bool value);

/**
 * Puts in an integer.
 */
stk_status stk_args_push_i64(stk_args *args, int64_t value);

/**
 * Puts in a number.
 */
stk_status stk_args_push_f64(stk_args *args, double value);

/**
 * Puts in a copy of text. STK_INVALID if it is not UTF-8.
 */
stk_status stk_args_push_str(stk_args *args, stk_str text);

/**
 * Puts in a copy of `len` bytes. What is large is better lent: stk_lease_new, stk_args_push_lease.
 */
stk_status stk_args_push_bytes(stk_args *args, const void *data, size_t len);

/**
 * Lends the bytes of a lease: the app has them as bytes, where they lie. The lease is still held, and may be released
 * at once: the arguments keep its memory until their call has ended. From when they are sent nobody may write it.
 * STK_STALE_LEASE if it was released.
 */
stk_status stk_args_push_lease(stk_args *args, stk_lease lease);

/**
 * Begins a list: what is put in until stk_args_end is in it.
 */
stk_status stk_args_begin_list(stk_args *args);

/**
 * Begins a dict: pairs of stk_args_key and a value, until stk_args_end.
 */
stk_status stk_args_begin_dict(stk_args *args);

/**
 * Ends the innermost list or dict.
 */
stk_status stk_args_end(stk_args *args);

/**
 * Within a dict: the key of the next value. Outside: the name of the next value, which is then an argument by name,
 * not by position.
 */
stk_status stk_args_key(stk_args *args, stk_str key);

/**
 * Calls an action of an app and waits for the one outcome. Blocks the calling thread, and no other. `args` is consumed,
 * whatever is returned; NULL is no arguments. `options` may be NULL. The result is stored through `result` on STK_OK;
 * with NULL it is let go of.
 *
 * Any status from STK_APP to STK_OVERRUN is the call's one outcome. STK_FORKED, STK_INVALID, STK_STALE_LEASE and
 * STK_REENTRANT mean that it was not sent. Others (STK_OS: no memory, no descriptors) may come before or after the app
 * ran: stk_error_started says -1 then. To cancel a call in flight, or to do something else meanwhile: stk_submit,
 * stk_submit_to.
 */
stk_status stk_execute(const stk_client *client,
                       stk_str app,
                       stk_str action,
                       stk_args *args,
                       const stk_options *options,
                       stk_result **result,
                       stk_error **error);

/**
 * Sends a call and does not wait for it: never blocks for a worker. Parameters as of stk_execute. A call that fails here
 * was not sent: STK_OVERLOADED at once when 64 are in flight or held as results. It is not sent twice, even if its options
 * say that it may run twice.
 *
 * Its deadline is enforced by whoever waits for it, or looks: a handle that is merely kept keeps its call.
 */
STK_MUST_USE
stk_status stk_submit(const stk_client *client,
                      stk_str app,
                      stk_str action,
                      stk_args *args,
                      const stk_options *options,
                      stk_pending **pending,
                      stk_error **error);

/**
 * Waits for the outcome, for at most `timeout_ms`: 0 looks and does not wait, STK_FOREVER waits as long as it takes.
 * STK_PENDING, without an error object, while there is none. Everything else is the outcome, as stk_execute gives it, and
 * it is given once: after that STK_INVALID. `result` may be NULL: then it is let go of.
 *
 * Blocks the calling thread, and no other.
 */
stk_status stk_pending_wait(stk_pending *pending,
                            uint64_t timeout_ms,
                            stk_result **result,
                            stk_error **error);

/**
 * Cancels the call and gives its outcome: STK_CANCELLED, unless another came first. Its app is told
 * (stk_call_is_cancelled); what it answers is dropped. STK_INVALID if the outcome was given before.
 */
stk_status stk_pending_cancel(stk_pending *pending, stk_result **result, stk_error **error);

/**
 * Frees the handle; a call in flight is cancelled. NULL is nothing.
 */
void stk_pending_free(stk_pending *pending);

/**
 * Sends a call, and takes what it answers item by item: never blocks for a worker. Parameters as of stk_execute. The pool's
 * limit for a call does not hold for a stream; those of `options` do. It is not sent twice, even if it may run twice.
 */
STK_MUST_USE
stk_status stk_stream_open(const stk_client *client,
                           stk_str app,
                           stk_str action,
                           stk_args *args,
                           const stk_options *options,
                           stk_stream **stream,
                           stk_error **error);

/**
 * What the app of a context said when it started: nothing put in is STK_KIND_NONE. It lasts as long as the stream. STK_END if
 * it has started none, or this is no context.
 */
stk_status stk_stream_started(const stk_stream *stream,
                              stk_value *value);

/**
 * Waits for the next item, for at most `timeout_ms`: 0 looks and does not wait, STK_FOREVER waits as long as it takes.
 * STK_OK: an item, stored through `result` (NULL: it is let go of). STK_END: there are no more, and that is said as often as
 * you ask (where the app finished its stream before it returned, the call goes on: stk_stream_wait). STK_PENDING: neither
 * yet. No error object comes with these two. Everything else is how the call ended, after its items, and is given once: then
 * STK_END.
 *
 *     while (!(status = stk_stream_next(stream, STK_FOREVER, &item, &e))) { …; stk_result_free(item); }
 *     if (status != STK_END) return stk_error_print(e);
 *
 * Blocks the calling thread, and no other.
 */
stk_status stk_stream_next(stk_stream *stream,
                           uint64_t timeout_ms,
                           stk_result **result,
                           stk_error **error);

/**
 * Waits for the end, for at most `timeout_ms`, and drops the items before it. (The app of a context that takes all it is sent
 * ends after stk_sender_finish.) STK_OK, also if the end was seen before: what the app returned is stk_stream_value.
 * STK_PENDING: it has not ended yet. Everything else is how the call ended, if that was not given yet. Blocks the calling
 * thread, and no other.
 */
stk_status stk_stream_wait(stk_stream *stream,
                           uint64_t timeout_ms,
                           stk_error **error);

/**
 * What the app returned behind its items, once the end was seen: STK_KIND_NONE if that was nothing, or the call failed.
 * STK_PENDING before. It lasts as long as the stream; bytes that were lent are read in the worker's memory.
 *
 * Of an action that answered with one result it is that result after stk_stream_wait; where stk_stream_next gave it for an
 * item it is nothing.
 */
stk_status stk_stream_value(const stk_stream *stream,
                            stk_value *value);

/**
 * Cancels the call, and drops the items that were not taken; those that you hold stay. The app is told (stk_call_is_cancelled),
 * and woken where it waits for room. Does not wait for it. The stream can only be freed then: other functions on it say
 * STK_INVALID (stk_stream_started works). Where the end was seen it changes nothing. To cancel while another thread takes
 * items: stk_stream_canceller.
 */
stk_status stk_stream_cancel(stk_stream *stream);

/**
 * A handle that cancels the call from another thread, while this one takes items: then STK_CANCELLED comes after the items
 * that are there. To be made before another thread takes them. Of a stream that has ended it is one that has nothing to do.
 */
STK_MUST_USE
stk_status stk_stream_canceller(const stk_stream *stream,
                                stk_canceller **canceller,
                                stk_error **error);

/**
 * Frees the handle; a call that has not ended is cancelled. Items stay valid until they are freed. NULL is nothing.
 */
void stk_stream_free(stk_stream *stream);

/**
 * Opens a context, a call in which items go both ways: sends the call, and waits until its app has started (stk_call_started).
 * Parameters as of stk_execute; limits are those of a stream (stk_stream_open), and hold for this wait, too. It is not sent
 * twice. What the app sends, and how the call ends, comes out of `stream`: begin with stk_stream_started. What is sent to the
 * app goes through `sender`. Both are yours to free.
 *
 * An app that loops over what it is sent returns when that has ended: stk_sender_finish before stk_stream_wait. The two ends
 * live together: an error, a cancel or the death of one ends the other. A context is used once. An app that starts none is
 * taken as it is: what it answers comes out of `stream`, and nothing can be sent to it (STK_CLOSED).
 *
 * Fails as stk_submit does, and with the call's outcome where that comes before the app has started. Blocks the calling
 * thread, and no other.
 */
STK_MUST_USE
stk_status stk_context_open(const stk_client *client,
                            stk_str app,
                            stk_str action,
                            stk_args *args,
                            const stk_options *options,
                            stk_stream **stream,
                            stk_sender **sender,
                            stk_error **error);

/**
 * Where the next item is put together, with the functions of arguments (stk_args_push_i64 and so on): one value, in which
 * there may be leases of this client, lent in place. The same pointer each time; it belongs to the sender: it is not to be
 * freed, nor sent as arguments, both of which are refused. NULL for NULL.
 *
 * A lease that was sent may be written again (stk_lease_writable) when the app has let go of the item and of all before it,
 * and the sender has looked: in stk_sender_send and stk_sender_reclaim. One that is freed first leaves that to the end of the
 * call, when the stream and all its items are freed.
 */
stk_args *stk_sender_item(stk_sender *sender);

/**
 * Sends what was put into stk_sender_item; nothing put in is the item none. Waits while there is no room, without spinning,
 * for at most `timeout_ms`: 0 looks and does not wait, except to ask the arbiter where a large item needs more shared memory,
 * STK_FOREVER waits as long as it takes. At most 1,024 items, 32 KiB of small ones and 8 MiB of large ones (whose encoding has
 * more than 448 bytes, and leases) are on their way, and an item that the app holds is, with all behind it.
 *
 * STK_PENDING, without an error object: there was no room in time, and the item is as it was, to be sent again; so it is after
 * STK_REENTRANT. After everything else stk_sender_item is empty. STK_CLOSED: the call has ended, the direction was finished, or
 * the app has started no context; how the call ended comes from its stream. STK_DEADLINE: the call's own has passed;
 * STK_ARBITER_DIED; STK_OVERLOADED, STK_BAD_REQUEST, STK_STALE_LEASE and STK_OS as for arguments; STK_INVALID if a function on
 * the item failed; STK_PROTOCOL if the worker's memory is damaged, and then again; STK_FORKED. The item was not sent then.
 *
 * Blocks the calling thread, and no other. A host that only sends, to an app that only sends, waits for ever: take and send on
 * two threads, or with limits.
 */
stk_status stk_sender_send(stk_sender *sender,
                           uint64_t timeout_ms,
                           stk_error **error);

/**
 * Looks which items the app has let go of, as stk_sender_send does: leases that went with them may be written again then. Does
 * not block. STK_PROTOCOL if the worker's memory is damaged. In a copy by fork it does nothing.
 */
stk_status stk_sender_reclaim(stk_sender *sender);

/**
 * No further item comes: the app is told so, behind the items that were sent (stk_inbox_next says STK_END), and the call goes
 * on. What was put together and not sent is not sent. A second time it changes nothing. Does not block.
 */
stk_status stk_sender_finish(stk_sender *sender);

/**
 * Frees the handle, and its item. A call that goes on is cancelled, unless stk_sender_finish was called: STK_CANCELLED comes
 * out of its stream. NULL is nothing.
 */
void stk_sender_free(stk_sender *sender);

/**
 * A handle that cancels this call and no other, however late it is used. To be made before another thread waits for the
 * call. Of a call whose outcome was given it is one that has nothing to do.
 */
STK_MUST_USE stk_status stk_pending_canceller(const stk_pending *pending, stk_canceller **canceller, stk_error **error);

/**
 * Cancels the call, queued or running: who waits for it has STK_CANCELLED at once, and its app is told
 * (stk_call_is_cancelled). STK_OK as well if it has ended, or was cancelled, and then nothing changes. Does not block.
 */
stk_status stk_canceller_cancel(const stk_canceller *canceller, stk_error **error);

/**
 * Waits until the work on the call has really ended: its worker let go of it or is dead, it never ran, or it ended by
 * itself. For at most `timeout_ms`: 0 looks and does not wait, STK_FOREVER waits as long as it takes. STK_PENDING, without an
 * error object, if it has not by then, or if the supervising process is gone and nobody can know. Cancels nothing. Blocks
 * the calling thread, and no other.
 */
STK_MUST_USE
stk_status stk_canceller_wait(const stk_canceller *canceller,
                              uint64_t timeout_ms,
                              stk_error **error);

/**
 * Frees the handle; the call goes on. NULL is nothing.
 */
void stk_canceller_free(stk_canceller *canceller);

/**
 * A queue of completions for this client. Takes three descriptors, and asks the arbiter, for at most 30 seconds.
 * STK_BAD_REQUEST while the client has another.
 */
STK_MUST_USE stk_status stk_completions_new(const stk_client *client, stk_completions **completions, stk_error **error);

/**
 * Cancels what is in flight and frees the queue. NULL is nothing.
 */
void stk_completions_free(stk_completions *completions);

/**
 * The descriptor, for epoll, poll or select: readable when there may be an outcome, at the next deadline, when the
 * supervising process dies, and now and then for nothing. Nothing else is to be done with it: it is the queue's, not
 * yours to close. -1 for NULL.
 */
int32_t stk_completions_fd(const stk_completions *completions);

/**
 * Sends a call whose outcome comes out of `completions`, which is this client's (STK_BAD_REQUEST if not), with this token.
 * Parameters otherwise as of stk_submit. A call that fails here was not sent, and nothing comes out.
 */
STK_MUST_USE
stk_status stk_submit_to(const stk_client *client,
                         stk_str app,
                         stk_str action,
                         stk_args *args,
                         const stk_options *options,
                         const stk_completions *completions,
                         uint64_t token,
                         stk_error **error);

/**
 * Sends a call whose answer comes out of `completions` item by item, each with this token: first the items, in the order in
 * which the app sent them, with `more` 1, then the end with `more` 0, once. The end is what the app returned behind its
 * items (STK_KIND_NONE where that is nothing), or how the call failed. An action that answers with one result has no items:
 * that result is the end. Never blocks for a worker. Parameters as of stk_submit_to. A call that fails here was not sent, and
 * nothing comes out.
 *
 * Limits are those of stk_stream_open. The time of `item_ms` counts from when the item before was taken, the first one's from
 * now. An item lies in the worker's memory until its result is freed; when there is no room for further ones that worker
 * waits. So take what is needed and free it.
 */
STK_MUST_USE
stk_status stk_stream_to(const stk_client *client,
                         stk_str app,
                         stk_str action,
                         stk_args *args,
                         const stk_options *options,
                         const stk_completions *completions,
                         uint64_t token,
                         stk_error **error);

/**
 * The next outcome or item. STK_PENDING if there is none yet: then the descriptor becomes readable when there may be one. The
 * status of the function is not that of the call, which is in `completion`. Does not block, except to fetch memory of a worker
 * that is met for the first time. In a copy by fork there is never one.
 */
stk_status stk_completions_next(const stk_completions *completions,
                                stk_completion *completion);

/**
 * Cancels the calls and streams with this token that are in flight. Their outcomes come out as all others do: STK_CANCELLED,
 * unless another came first; items that nobody took are dropped. Where there is no such call nothing happens, and that is
 * STK_OK.
 */
stk_status stk_completions_cancel(const stk_completions *completions,
                                  uint64_t token);

/**
 * How many outcomes are still to come; a stream has one, its end. 0 for NULL.
 */
size_t stk_completions_in_flight(const stk_completions *completions);

/**
 * Lets go of the result. NULL is nothing.
 */
void stk_result_free(stk_result *result);

/**
 * Which incarnation of a worker ran the call: 1 for the first that the pool started, and so on. 0 for NULL, and for what an
 * opener sent.
 */
uint32_t stk_result_worker(const stk_result *result);

/**
 * The result as a value, for lists and dicts.
 */
stk_status stk_result_value(const stk_result *result, stk_value *value);

/**
 * The result as a truth value. STK_VALUE if it is something else.
 */
stk_status stk_result_bool(const stk_result *result, bool *out);

/**
 * The result as an integer. STK_VALUE if it is something else.
 */
stk_status stk_result_i64(const stk_result *result, int64_t *out);

/**
 * The result as a number; an integer becomes one if there is one that is equal to it. STK_VALUE if it is
 * something else.
 */
stk_status stk_result_f64(const stk_result *result, double *out);

/**
 * The result as text. STK_VALUE if it is something else.
 */
stk_status stk_result_str(const stk_result *result, stk_str *out);

/**
 * The result as bytes, in the worker's memory if it built them there: read, never write. STK_VALUE if it is something
 * else.
 */
stk_status stk_result_bytes(const stk_result *result, stk_bytes *out);

/**
 * The value as a truth value. STK_VALUE if it is something else.
 */
stk_status stk_value_bool(const stk_value *value, bool *out);

/**
 * The value as an integer. STK_VALUE if it is something else.
 */
stk_status stk_value_i64(const stk_value *value, int64_t *out);

/**
 * The value as a number; an integer becomes one if there is one that is equal to it. STK_VALUE if it is
 * something else.
 */
stk_status stk_value_f64(const stk_value *value, double *out);

/**
 * The value as text. STK_VALUE if it is something else.
 */
stk_status stk_value_str(const stk_value *value, stk_str *out);

/**
 * The value as bytes. STK_VALUE if it is something else.
 */
stk_status stk_value_bytes(const stk_value *value, stk_bytes *out);

/**
 * How many values a list has, or pairs a dict. STK_VALUE if it is neither.
 */
stk_status stk_value_len(const stk_value *value, size_t *out);

/**
 * The value of a key in a dict; if the key is there twice, the last. STK_END if it is not there, STK_VALUE if this is
 * no dict. Walks the whole dict.
 */
stk_status stk_value_get(const stk_value *dict, stk_str key, stk_value *value);

/**
 * Begins a walk over a list or a dict: then stk_iter_next, until STK_END. STK_VALUE if it is neither.
 */
stk_status stk_value_iter(const stk_value *value, stk_iter *iter);

/**
 * The next value; of a dict with its key, unless `key` is NULL (of a list the key is empty). STK_END when there are no
 * more. Time does not depend on how far the walk has come.
 */
stk_status stk_iter_next(stk_iter *iter, stk_str *key, stk_value *value);

/**
 * Memory of `size` bytes of this client, for arguments: fill it, then stk_args_push_lease. Not cleared. Where more shared
 * memory must be registered it asks the arbiter, usually for less than a millisecond, for at most 30 seconds.
 *
 * STK_BAD_REQUEST past 1 GiB; STK_OVERLOADED past the client's 2 GiB; STK_OS when the memory file system is
 * full.
 */
STK_MUST_USE
stk_status stk_lease_new(const stk_client *client,
                         size_t size,
                         stk_lease *lease,
                         stk_error **error);

/**
 * Whether the bytes of a lease for arguments may be written (again): STK_OK, or STK_LENT while arguments or a sender's item
 * hold it, or a call carries it that may still be with a worker. STK_STALE_LEASE if it is not held; STK_OK for a lease for a
 * result.
 */
stk_status stk_lease_writable(stk_lease lease);

/**
 * Gives it back: at once, or when the last call that carries it has ended. In any order with everything else.
 * STK_STALE_LEASE, without harm, if it is not held any more.
 */
stk_status stk_lease_release(stk_lease lease);

/**
 * What STK_APP_LIBRARY defines stokehold_app_library with; nobody else calls it. The tables and options are those of
 * stk_init, which a library does not call. What is wrong with them is the error of the pool's start, or of `stokehold
 * serve`.
 */
int32_t stk_library_enter(uint32_t abi,
                          uint32_t purpose,
                          int32_t socket,
                          const stk_app *apps,
                          size_t n,
                          const stk_init_options *options);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* STOKEHOLD_H */
