/* Pools that are started in every way, end in every way, and are used when they should not be. */
#include "check.h"

#include <fcntl.h>
#include <pthread.h>

static host before; /* made by the host, found by a worker that was forked from it */
static stk_result *result_before, *large_before;
static stk_lease lease_before;

/* What every handle answers in a copy by fork. 0 if all is as it should be, else which was not. */
static int in_a_copy(void)
{
    stk_error *e = NULL;
    stk_client *client = NULL;
    stk_result *result = NULL;
    stk_lease lease;
    size_t n = 0;
    int32_t fd = -1;
    stk_value value;
    stk_bytes bytes;
    int64_t number = 0;
    stk_args *args = stk_args_new(before.client);
    stk_args_push_i64(args, 1);
    if (stk_execute(before.client, STK_STR("t"), STK_STR("i64"), args, NULL, &result, &e) != STK_FORKED) return 1;
    if (stk_error_status(e) != STK_FORKED || !*stk_error_message(e)) return 2;
    stk_error_free(e);
    if (stk_client_new(before.pool, &client, NULL) != STK_FORKED) return 3;
    if (stk_pool_client_fd(before.pool, &fd, NULL) != STK_FORKED) return 4;
    if (stk_lease_new(before.client, 100, &lease, NULL) != STK_FORKED) return 5;
    if (stk_pool_stop(before.pool, NULL) != STK_FORKED) return 6;
    const stk_status again = stk_pool_kill(before.pool, NULL);
    if (again != STK_OK && again != STK_FORKED) return 7; /* what is left of the handle is stopped */
    if (stk_client_worker_pids(before.client, NULL, 0, &n) != STK_OK || n != 0) return 8;
    if (stk_result_i64(result_before, &number) != STK_OK || number != 5) return 9; /* small, and so copied */
    if (stk_result_value(large_before, &value) != STK_FORKED) return 10;
    if (stk_result_bytes(large_before, &bytes) != STK_FORKED) return 11;
    stk_lease_release(lease_before);
    stk_result_free(result_before);
    stk_result_free(large_before);
    stk_client_free(before.client);
    stk_pool_free(before.pool);
    return 0;
}

static stk_status app(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    int64_t n = 0;
    (void)user;
    if (called(call, "i64")) return stk_call_i64(call, 0, &n) ? STK_BAD_REQUEST : stk_reply_i64(reply, n);
    if (called(call, "large")) {
        stk_lease lease;
        if (stk_call_lease(call, 50000, &lease)) return STK_APP;
        memset(lease.data, 1, lease.size);
        return stk_reply_lease(reply, lease, lease.size);
    }
    if (called(call, "pid")) return stk_reply_i64(reply, getpid());
    if (called(call, "sleep")) {
        if (stk_call_i64(call, 0, &n)) return STK_BAD_REQUEST;
        return has_begun("sleeping") ? STK_APP : (sleep_ms(n), STK_OK);
    }
    if (called(call, "hosts_handles")) return stk_reply_i64(reply, in_a_copy());
    if (called(call, "fd_open")) {
        if (stk_call_i64(call, 0, &n)) return STK_BAD_REQUEST;
        return stk_reply_bool(reply, fcntl((int)n, F_GETFD) != -1);
    }
    return stk_call_no_action(call);
}

static stk_status never(uintptr_t user, uintptr_t *instance, stk_error **error)
{
    (void)instance;
    if (user == 2) *error = stk_error_new(STK_STR("ModelMissing"), STK_STR("there is no /models/7b"));
    return STK_APP;
}

static stk_status broken(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    (void)user, (void)call;
    return stk_reply_none(reply);
}

static stk_config *with_app(const char *name)
{
    stk_config *config = stk_config_new();
    IS(STK_OK, stk_config_add_app(config, S(name)));
    /* An app that cannot boot is given up at once. */
    stk_config_set_restart_limit(config, 0, 60000);
    return config;
}

static void an_arbiter_is_killed(void)
{
    host h = host_up(with_app("t"));
    stk_error *e = NULL;
    stk_client *second = NULL;
    stk_result *result = NULL;
    stk_lease lease;
    int64_t n = 0;
    uint32_t pids[4];
    size_t found = 0;
    WORKS(run_i64(h.client, "i64", 41, &result, &e));
    IS(STK_OK, stk_client_worker_pids(h.client, pids, COUNT(pids), &found));
    const pid_t arbiter = (pid_t)stk_pool_arbiter_pid(h.pool);
    CHECK(found == 1 && arbiter > 0 && lives(arbiter));
    NEED(kill(arbiter, SIGKILL) == 0);
    UNTIL(!lives(arbiter));
    UNTIL(!lives((pid_t)pids[0])); /* its workers go with it */
    FAILS(STK_ARBITER_DIED, "arbiter", run_i64(h.client, "i64", 1, NULL, &e));
    FAILS(STK_ARBITER_DIED, "arbiter", run_i64(h.client, "i64", 1, NULL, &e));
    FAILS(STK_ARBITER_DIED, "arbiter", stk_client_new(h.pool, &second, &e));
    CHECK(second == NULL && stk_pool_arbiter_pid(h.pool) == (uint32_t)arbiter);
    CHECK(stk_result_i64(result, &n) == STK_OK && n == 41); /* what was there stays there */
    const stk_status status = stk_lease_new(h.client, 100, &lease, NULL);
    CHECK(status == STK_OK || status == STK_ARBITER_DIED);
    IS(STK_OK, stk_pool_stop(h.pool, &e));
    stk_result_free(result);
    host_down(h);
    if (status == STK_OK) IS(STK_OK, stk_lease_release(lease));
}

static void an_arbiter_is_killed_in_the_middle_of_a_call(void)
{
    host h = host_up(with_app("t"));
    stk_error *e = NULL;
    const pid_t arbiter = (pid_t)stk_pool_arbiter_pid(h.pool);
    const pid_t killer = fork();
    if (killer == 0) {
        UNTIL(unlink("sleeping") == 0);
        _exit(kill(arbiter, SIGKILL) != 0);
    }
    IS(STK_ARBITER_DIED, run_i64(h.client, "sleep", 600000, NULL, &e));
    CHECK(stk_error_started(e) == 1);
    stk_error_free(e);
    int status = -1;
    CHECK(waitpid(killer, &status, 0) == killer && status == 0);
    host_down(h);
}

/* What is left of a pool that ended in an orderly way. */
static void used_after(stk_status (*end)(const stk_pool *, stk_error **))
{
    host h = host_up(with_app("t"));
    stk_error *e = NULL;
    stk_result *result = NULL;
    stk_lease lease, more;
    stk_client *client = NULL;
    int64_t n = 0;
    int32_t fd = -1;
    size_t found = 9;
    WORKS(run_i64(h.client, "i64", 41, &result, &e));
    WORKS(stk_lease_new(h.client, 5000, &lease, &e));
    stk_args *args = stk_args_new(h.client);
    IS(STK_OK, stk_args_push_lease(args, lease));
    const pid_t arbiter = (pid_t)stk_pool_arbiter_pid(h.pool);
    if (end) {
        WORKS(end(h.pool, &e));
        CHECK(!lives(arbiter));
        WORKS(stk_pool_stop(h.pool, &e));
        WORKS(stk_pool_kill(h.pool, &e));
        FAILS(STK_SHUTTING_DOWN, "shutting down", stk_client_new(h.pool, &client, &e));
        FAILS(STK_SHUTTING_DOWN, "shutting down", stk_pool_client_fd(h.pool, &fd, &e));
        CHECK(client == NULL && fd == -1 && stk_pool_arbiter_pid(h.pool) == (uint32_t)arbiter);
    }
    stk_pool_free(h.pool);
    CHECK(!lives(arbiter));
    const stk_status status = run(h.client, "i64", args, NULL, &e);
    CHECK(status == STK_SHUTTING_DOWN || status == STK_ARBITER_DIED);
    CHECK(stk_error_status(e) == status && *stk_error_message(e));
    stk_error_free(e), e = NULL;
    CHECK(stk_client_worker_pids(h.client, NULL, 0, &found) == STK_OK && found != 9);
    memset(lease.data, 7, lease.size); /* still held, still ours */
    IS(STK_OK, stk_lease_release(lease));
    IS(STK_STALE_LEASE, stk_lease_release(lease));
    if (stk_lease_new(h.client, 1 << 20, &more, NULL) == STK_OK) IS(STK_OK, stk_lease_release(more));
    CHECK(stk_result_i64(result, &n) == STK_OK && n == 41);
    stk_client_free(h.client);
    CHECK(stk_result_i64(result, &n) == STK_OK && n == 41);
    stk_result_free(result);
}

static void used_after_a_stop(void) { used_after(stk_pool_stop); }
static void used_after_a_kill(void) { used_after(stk_pool_kill); }
static void used_after_it_was_freed(void) { used_after(NULL); }

static void *a_call(void *client)
{
    stk_error *e = NULL;
    static stk_status status;
    status = run_i64(client, "sleep", 300, NULL, &e);
    stk_error_free(e);
    return &status;
}

/* The grace of a stop is the running call's. */
static void a_stop_lets_calls_finish(void)
{
    host h = host_up(with_app("t"));
    stk_error *e = NULL;
    pthread_t thread;
    void *status = NULL;
    NEED(pthread_create(&thread, NULL, a_call, h.client) == 0);
    UNTIL(unlink("sleeping") == 0);
    WORKS(stk_pool_stop(h.pool, &e));
    pthread_join(thread, &status);
    IS(STK_OK, *(const stk_status *)status);
    host_down(h);
}

static void configurations_that_cannot_be(void)
{
    stk_error *e = NULL;
    stk_pool *pool = NULL;
    stk_config *config = with_app("t");
    IS(STK_OK, stk_config_set_workers(config, 65));
    FAILS(STK_CONFIG, "65", stk_pool_start(config, &pool, &e));
    config = with_app("t"), stk_config_set_workers(config, SIZE_MAX);
    FAILS(STK_CONFIG, "", stk_pool_start(config, &pool, &e));
    config = with_app("t"), stk_config_set_threads(config, 0);
    FAILS(STK_CONFIG, "thread", stk_pool_start(config, &pool, &e));
    config = with_app("t"), stk_config_set_threads(config, SIZE_MAX), stk_config_set_workers(config, 2);
    FAILS(STK_CONFIG, "", stk_pool_start(config, &pool, &e));
    config = with_app("t"), stk_config_set_threads(config, 64), stk_config_set_workers(config, 3);
    FAILS(STK_CONFIG, "128", stk_pool_start(config, &pool, &e));
    config = with_app("nope");
    FAILS(STK_CONFIG, "nope", stk_pool_start(config, &pool, &e));
    config = with_app("");
    FAILS(STK_CONFIG, "", stk_pool_start(config, &pool, &e));
    config = with_app("t"), stk_config_add_app(config, STK_STR("t"));
    FAILS(STK_CONFIG, "twice", stk_pool_start(config, &pool, &e));
    config = with_app("t"), stk_config_set_backoff_ms(config, 100, 10);
    FAILS(STK_CONFIG, "", stk_pool_start(config, &pool, &e));
    CHECK(pool == NULL);
    IS(STK_CONFIG, stk_pool_start(with_app("nope"), &pool, NULL));
}

/* Numbers as large as they can be are no overflow in here. */
static void the_longest_times(void)
{
    stk_error *e = NULL;
    stk_pool *pool = NULL;
    stk_config *config = with_app("t");
    IS(STK_OK, stk_config_set_timeout_ms(config, UINT64_MAX));
    IS(STK_OK, stk_config_set_kill_grace_ms(config, UINT64_MAX));
    IS(STK_OK, stk_config_set_stop_grace_ms(config, UINT64_MAX));
    IS(STK_OK, stk_config_set_restart_limit(config, UINT32_MAX, UINT64_MAX));
    IS(STK_OK, stk_config_set_backoff_ms(config, UINT64_MAX, UINT64_MAX));
    const stk_status status = stk_pool_start(config, &pool, &e);
    CHECK(status == STK_OK || status == STK_CONFIG);
    if (status == STK_OK) WORKS(stk_pool_stop(pool, &e));
    stk_error_free(e), e = NULL;
    stk_pool_free(pool), pool = NULL;
    config = with_app("t");
    IS(STK_OK, stk_config_set_boot_timeout_ms(config, UINT64_MAX));
    IS(STK_OK, stk_config_set_start_timeout_ms(config, UINT64_MAX));
    const stk_status other = stk_pool_start(config, &pool, &e);
    CHECK(other == STK_OK || other == STK_CONFIG);
    if (other != STK_OK) stk_error_print(e);
    stk_error_free(e);
    stk_pool_free(pool);
}

static void an_app_that_cannot_boot_says_why(void)
{
    stk_error *e = NULL;
    stk_pool *pool = NULL;
    FAILS(STK_START, "there is no /models/7b", stk_pool_start(with_app("missing"), &pool, &e));
    FAILS(STK_START, "init returned STK_APP", stk_pool_start(with_app("silent"), &pool, &e));
    FAILS(STK_START, "", stk_pool_start(NULL, &pool, &e)); /* all apps, those among them */
    CHECK(pool == NULL);
}

static void helpers_that_are_none(void)
{
    if (under("valgrind")) SKIP("its clone copies the memory, so that a failed exec is not heard of");
    stk_error *e = NULL;
    stk_pool *pool = NULL;
    stk_config *config = with_app("t");
    IS(STK_INVALID, stk_config_set_helper(config, STK_STR("")));
    IS(STK_INVALID, stk_config_set_helper(config, STK_STR("a\0b")));
    IS(STK_OK, stk_config_set_helper(config, STK_STR("/no/such/program")));
    FAILS(STK_OS, "/no/such/program", stk_pool_start(config, &pool, &e));
    config = with_app("t"), stk_config_set_helper(config, STK_STR("/no/such/program"));
    IS(STK_OS, stk_pool_start(config, &pool, &e));
    CHECK(stk_error_errno(e) == ENOENT);
    stk_error_free(e), e = NULL;
    config = with_app("t"), stk_config_set_helper(config, STK_STR("/bin/true"));
    FAILS(STK_START, "init first", stk_pool_start(config, &pool, &e));
    config = with_app("t"), stk_config_set_helper(config, STK_STR("/"));
    FAILS(STK_OS, "", stk_pool_start(config, &pool, &e));
    CHECK(pool == NULL);
}

static void this_program_as_its_helper(void)
{
    char path[4096];
    stk_error *e = NULL;
    stk_pool *pool = NULL;
    const ssize_t n = readlink("/proc/self/exe", path, sizeof path);
    NEED(n > 0 && n < (ssize_t)sizeof path);
    stk_config *config = with_app("t");
    IS(STK_OK, stk_config_set_helper(config, (stk_str){path, (size_t)n}));
    host h = host_up(config);
    CHECK(ask(h.client, "i64", 4) == 4);
    host_down(h);
    config = with_app("unknown"), stk_config_set_helper(config, (stk_str){path, (size_t)n});
    FAILS(STK_START, "unknown", stk_pool_start(config, &pool, &e));
}

static void *sleeper(void *unused)
{
    sleep_ms(500);
    return unused;
}

/* A host with something of each kind in its hands. */
static void hold_before(void)
{
    stk_error *e = NULL;
    before = host_up(with_app("t"));
    WORKS(run_i64(before.client, "i64", 5, &result_before, &e));
    WORKS(run(before.client, "large", NULL, &large_before, &e));
    WORKS(stk_lease_new(before.client, 100, &lease_before, &e));
}

/* What a copy did to its copies of them was nothing to these. */
static void all_of_before_is_there(void)
{
    int64_t five = 0;
    stk_bytes bytes;
    CHECK(ask(before.client, "i64", 6) == 6);
    CHECK(stk_result_i64(result_before, &five) == STK_OK && five == 5);
    stk_result_free(result_before);
    CHECK(stk_result_bytes(large_before, &bytes) == STK_OK && bytes.len == 50000);
    stk_result_free(large_before);
    IS(STK_OK, stk_lease_release(lease_before));
    host_down(before);
}

static void by_fork(void)
{
    stk_error *e = NULL;
    if (under("valgrind")) SKIP("the copies would run under valgrind, which lacks system calls that they need");
    int ends[2];
    NEED(pipe(ends) == 0);
    for (int i = 0; i < 2; i++) { /* numbers that nobody gets by himself */
        const int low = ends[i];
        ends[i] = fcntl(low, F_DUPFD, 300);
        close(low);
    }
    hold_before();
    stk_config *config = with_app("t");
    IS(STK_OK, stk_config_set_fork(config));
    IS(STK_INVALID, stk_config_keep_fd(config, -1));
    IS(STK_OK, stk_config_keep_fd(config, ends[1]));
    host h = host_up(config);
    CHECK(ask(h.client, "i64", 4) == 4);
    CHECK(ask(h.client, "hosts_handles", 0) == 0);
    bool kept = false, other = true;
    stk_result *result = NULL;
    WORKS(run_i64(h.client, "fd_open", ends[1], &result, &e));
    CHECK(stk_result_bool(result, &kept) == STK_OK && kept);
    stk_result_free(result);
    WORKS(run_i64(h.client, "fd_open", ends[0], &result, &e));
    CHECK(stk_result_bool(result, &other) == STK_OK && !other);
    stk_result_free(result);
    host_down(h);
    all_of_before_is_there();
    close(ends[0]), close(ends[1]);
}

static void by_fork_with_threads(void)
{
    pthread_t thread;
    stk_error *e = NULL;
    stk_pool *pool = NULL;
    NEED(pthread_create(&thread, NULL, sleeper, NULL) == 0);
    stk_config *config = with_app("t");
    IS(STK_OK, stk_config_set_fork(config));
    FAILS(STK_THREADS, "2", stk_pool_start(config, &pool, &e));
    CHECK(pool == NULL);
    pthread_join(thread, NULL);
}

static void handles_in_a_copy(void)
{
    hold_before();
    const pid_t copy = fork();
    if (copy == 0) _exit(in_a_copy());
    int status = -1;
    CHECK(waitpid(copy, &status, 0) == copy);
    if (status != 0) CHECK(!"the copy found all as it should be"), fprintf(stderr, "status %#x\n", (unsigned)status);
    all_of_before_is_there();
}

static void a_second_init(void)
{
    static const stk_app apps[] = {{.struct_size = sizeof(stk_app), .name = "u", .call = app}};
    stk_error *e = NULL;
    FAILS(STK_CONFIG, "twice", stk_init(apps, 1, NULL, &e));
    FAILS(STK_CONFIG, "twice", stk_init(NULL, 0, NULL, &e));
    host h = host_up(with_app("t"));
    CHECK(ask(h.client, "i64", 2) == 2);
    host_down(h);
}

static void many_pools(void)
{
    host hosts[8];
    for (size_t i = 0; i < COUNT(hosts); i++) hosts[i] = host_up(with_app("t"));
    for (size_t i = 0; i < COUNT(hosts); i++) {
        CHECK(ask(hosts[i].client, "i64", (int64_t)i) == (int64_t)i);
        for (size_t k = 0; k < i; k++)
            CHECK(stk_pool_arbiter_pid(hosts[i].pool) != stk_pool_arbiter_pid(hosts[k].pool));
    }
    for (size_t i = 0; i < COUNT(hosts); i += 2) host_down(hosts[i]);
    for (size_t i = 1; i < COUNT(hosts); i += 2) {
        CHECK(ask(hosts[i].client, "i64", (int64_t)i) == (int64_t)i);
        host_down(hosts[i]);
    }
}

static void *short_lived(void *out)
{
    *(host *)out = host_up(with_app("t"));
    return NULL;
}

/* A death signal goes out when the thread ends that asked for it, not its process: an arbiter must not have one. */
static void started_by_a_thread_that_ends(void)
{
    host h = {NULL, NULL};
    pthread_t thread;
    NEED(pthread_create(&thread, NULL, short_lived, &h) == 0);
    NEED(pthread_join(thread, NULL) == 0);
    sleep_ms(200);
    CHECK(lives((pid_t)stk_pool_arbiter_pid(h.pool)));
    CHECK(ask(h.client, "i64", 11) == 11);
    host_down(h);
}

/* Another process of this user joins over a socket. */
static void a_second_host(void)
{
    host h = host_up(with_app("t"));
    stk_error *e = NULL;
    int32_t fd = -1;
    WORKS(stk_pool_client_fd(h.pool, &fd, &e));
    CHECK(fd > 2 && (fcntl(fd, F_GETFD) & FD_CLOEXEC));
    const pid_t other = fork();
    if (other == 0) {
        stk_client *client = NULL;
        if (stk_client_connect(fd, STK_WAIT_PARK, &client, &e)) _exit(stk_error_print(e));
        const bool good = ask(client, "i64", 12) == 12;
        stk_client_free(client);
        _exit(good && fcntl(fd, F_GETFD) != -1 ? 0 : 2);
    }
    close(fd);
    int status = -1;
    CHECK(waitpid(other, &status, 0) == other && status == 0);
    stk_client *client = NULL;
    FAILS(STK_OS, "", stk_client_connect(fd, STK_WAIT_PARK, &client, &e)); /* closed */
    FAILS(STK_INVALID, "-1", stk_client_connect(-1, STK_WAIT_PARK, &client, &e));
    FAILS(STK_INVALID, "wait", stk_client_connect(0, 3, &client, &e));
    const int null = open("/dev/null", O_RDWR);
    const stk_status status2 = stk_client_connect(null, STK_WAIT_PARK, &client, &e);
    CHECK(status2 != STK_OK && stk_error_status(e) == status2 && client == NULL);
    stk_error_free(e);
    close(null);
    host_down(h);
}

static void clients_of_every_wait(void)
{
    for (uint32_t wait = STK_WAIT_ADAPTIVE; wait <= STK_WAIT_SPIN; wait++) {
        stk_config *config = with_app("t");
        IS(STK_OK, stk_config_set_wait(config, wait));
        host h = host_up(config);
        for (int64_t i = 0; i < 20; i++) CHECK(ask(h.client, "i64", i) == i);
        host_down(h);
    }
}

int main(int argc, char **argv)
{
    static const stk_app apps[] = {
        {.struct_size = sizeof(stk_app), .name = "t", .call = app},
        {.struct_size = sizeof(stk_app), .name = "missing", .user = 2, .init = never, .call = broken},
        {.struct_size = sizeof(stk_app), .name = "silent", .user = 3, .init = never, .call = broken},
    };
    static const test tests[] = {
        TEST(by_fork), /* before there are threads: a sanitizer's are none of the process's */
        TEST(handles_in_a_copy),
        TEST(an_arbiter_is_killed),
        TEST(an_arbiter_is_killed_in_the_middle_of_a_call),
        TEST(used_after_a_stop),
        TEST(used_after_a_kill),
        TEST(used_after_it_was_freed),
        TEST(a_stop_lets_calls_finish),
        TEST(configurations_that_cannot_be),
        TEST(the_longest_times),
        TEST(an_app_that_cannot_boot_says_why),
        TEST(helpers_that_are_none),
        TEST(this_program_as_its_helper),
        TEST(by_fork_with_threads),
        TEST(a_second_init),
        TEST(many_pools),
        TEST(started_by_a_thread_that_ends),
        TEST(a_second_host),
        TEST(clients_of_every_wait),
    };
    stk_error *e = NULL;
    if (stk_init(apps, COUNT(apps), NULL, &e)) return stk_error_print(e);
    return run_tests(tests, COUNT(tests), argc, argv);
}
