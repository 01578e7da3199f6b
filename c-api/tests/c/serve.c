/* A pool that is served under a path: by a process that does nothing else, for those that know the path. */
#include "check.h"

#include <sys/stat.h>

static const char *const place = "d/pool.sock";

static stk_status app(uintptr_t user, const stk_call *call, stk_reply *reply)
{
    (void)user;
    int64_t n;
    if (called(call, "abort")) abort();
    if (called(call, "twice") && stk_call_i64(call, 0, &n) == STK_OK) return stk_reply_i64(reply, 2 * n);
    return stk_call_no_action(call);
}

static const char *self;

/* This program once more, which serves; its exit status is that of stk_pool_serve. Not a plain copy: valgrind goes along
 * with those, and has its own ways for a worker to die. */
static pid_t served(const char *workers)
{
    fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0) {
        execl(self, self, "serve", workers, (char *)NULL);
        _exit(127);
    }
    return pid;
}

static stk_client *joined(void)
{
    stk_client *client = NULL;
    UNTIL(stk_client_connect_path(S(place), STK_WAIT_ADAPTIVE, &client, NULL) == STK_OK);
    NEED(client != NULL);
    return client;
}

static void ends(pid_t pid, int signal, int expected)
{
    int status = 0;
    kill(pid, signal);
    CHECK(waitpid(pid, &status, 0) == pid);
    if (signal == SIGKILL) CHECK(WIFSIGNALED(status));
    else CHECK(WIFEXITED(status) && WEXITSTATUS(status) == expected);
}

static void others_join_by_the_path(void)
{
    stk_error *e = NULL;
    stk_result *result = NULL;
    const pid_t pid = served("2");
    stk_client *client = joined(), *second = joined();
    CHECK(ask(client, "twice", 21) == 42 && ask(second, "twice", 4) == 8);
    FAILS(STK_WORKER_DIED, "signal 6", run_i64(client, "abort", 0, &result, &e));
    CHECK(ask(second, "twice", 5) == 10);
    /* The path is taken, and its holder is none the worse for it. */
    FAILS(STK_START, "served already", stk_pool_serve(workers(1), S(place), &e));
    CHECK(ask(client, "twice", 6) == 12);
    ends(pid, SIGTERM, STK_OK);
    CHECK(rmdir("d") == 0); /* nothing is left in it */
    CHECK(run_i64(client, "twice", 1, &result, NULL) != STK_OK);
    stk_client_free(client), stk_client_free(second);
}

static void one_that_was_killed_is_replaced(void)
{
    stk_error *e = NULL;
    stk_result *result = NULL;
    pid_t pid = served("1");
    stk_client *client = joined();
    CHECK(ask(client, "twice", 1) == 2);
    ends(pid, SIGKILL, 0);
    FAILS(STK_ARBITER_DIED, "", run_i64(client, "twice", 1, &result, &e));
    stk_client_free(client);
    pid = served("1");
    client = joined();
    CHECK(ask(client, "twice", 2) == 4);
    stk_client_free(client);
    ends(pid, SIGINT, STK_OK);
    CHECK(rmdir("d") == 0);
}

static void what_cannot_be_served(void)
{
    stk_error *e = NULL;
    stk_client *client = NULL;
    stk_pool *pool = NULL;
    FAILS(STK_INVALID, "path", stk_pool_serve(workers(1), STK_STR(""), &e));
    FAILS(STK_INVALID, "path", stk_pool_serve(NULL, (stk_str){NULL, 1}, &e));
    FAILS(STK_INVALID, "path", stk_pool_serve(NULL, (stk_str){"a\0b", 3}, &e));
    FAILS(STK_CONFIG, "65", stk_pool_serve(workers(65), S(place), &e));
    CHECK(mkdir("open", 0755) == 0);
    FAILS(STK_CONFIG, "chmod 700", stk_pool_serve(NULL, STK_STR("open/pool.sock"), &e));
    CHECK(rmdir("open") == 0);
    FAILS(STK_INVALID, "path", stk_client_connect_path(STK_STR(""), 0, &client, &e));
    FAILS(STK_INVALID, "wait", stk_client_connect_path(S(place), 3, &client, &e));
    FAILS(STK_INVALID, "client", stk_client_connect_path(S(place), 0, NULL, &e));
    FAILS(STK_OS, place, stk_client_connect_path(S(place), 0, &client, &e));
    stk_config *config = stk_config_new();
    IS(STK_INVALID, stk_config_set_app_library(config, STK_STR("")));
    IS(STK_INVALID, stk_config_set_app_library(NULL, STK_STR("x.so")));
    IS(STK_OK, stk_config_set_app_library(config, STK_STR("nowhere/x.so")));
    FAILS(STK_START, "nowhere/x.so", stk_pool_start(config, &pool, &e));
    CHECK(client == NULL && pool == NULL);
    CHECK(stk_library_enter(2, 0, -1, NULL, 0, NULL) < 0); /* a border that it does not know */
    CHECK(stk_library_enter(1, 0, -1, NULL, 0, NULL) == 1);
    CHECK(stk_library_enter(1, 9, -1, NULL, 0, NULL) < 0);
}

int main(int argc, char **argv)
{
    static const stk_app apps[] = {{.struct_size = sizeof(stk_app), .name = "t", .call = app}};
    static const test tests[] = {
        TEST(others_join_by_the_path),
        TEST(one_that_was_killed_is_replaced),
        TEST(what_cannot_be_served),
    };
    stk_error *e = NULL;
    if (stk_init(apps, 1, NULL, &e)) return stk_error_print(e);
    if (argc > 2 && strcmp(argv[1], "serve") == 0) {
        const stk_status status = stk_pool_serve(workers((size_t)atoi(argv[2])), S(place), &e);
        if (status) stk_error_print(e);
        return (int)status;
    }
    self = argv[0];
    return run_tests(tests, COUNT(tests), argc, argv);
}
