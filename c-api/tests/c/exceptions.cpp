// C++: the header as it is, an app of lambdas' kind, and what leaves a callback that must not leave it. Whatever does
// ends its worker, and nobody else.
#include "check.h"

#include <pthread.h>
#include <stdexcept>
#include <string>

namespace {

struct Unwound {
    ~Unwound() {}
};

stk_status app(uintptr_t, const stk_call *call, stk_reply *reply)
{
    const Unwound unwound; // a frame with something to clean up
    int64_t n = 0;
    if (called(call, "throw")) throw std::runtime_error("out of coal");
    if (called(call, "throw_int")) throw 5;
    if (called(call, "pthread_exit")) pthread_exit(nullptr);
    if (called(call, "caught")) {
        try {
            throw std::runtime_error("said and caught");
        } catch (const std::exception &e) {
            return stk_reply_fail(reply, STK_STR("std::exception"), stk_str_from(e.what()));
        }
    }
    if (called(call, "i64")) return stk_call_i64(call, 0, &n) ? STK_BAD_REQUEST : stk_reply_i64(reply, n);
    return stk_call_no_action(call);
}

stk_status init(uintptr_t, uintptr_t *, stk_error **)
{
    throw std::string("no init");
}

stk_config *workers_of_t(size_t n)
{
    stk_config *config = workers(n);
    stk_config_add_app(config, STK_STR("t"));
    return config;
}

void dies(const char *action)
{
    stk_config *config = workers_of_t(2);
    stk_config_set_restart_limit(config, 100, 1000);
    const host h = host_up(config);
    stk_error *e = nullptr;
    int32_t signal = 0;
    for (int i = 0; i < 3; i++) {
        IS(STK_WORKER_DIED, run(h.client, action, nullptr, nullptr, &e));
        CHECK(stk_error_cause(e, &signal) == STK_CAUSE_SIGNAL && signal == SIGABRT);
        CHECK(stk_error_started(e) == 1 && stk_error_worker_pid(e) != 0);
        stk_error_free(e), e = nullptr;
        CHECK(ask(h.client, "i64", i) == i);
    }
    host_down(h);
}

void an_exception() { dies("throw"); }
void an_exception_that_is_none() { dies("throw_int"); }
void an_exit_of_the_thread() { dies("pthread_exit"); }

void a_caught_exception()
{
    const host h = host_up(workers_of_t(1));
    stk_error *e = nullptr;
    FAILS(STK_APP, "said and caught", run(h.client, "caught", nullptr, nullptr, &e));
    host_down(h);
}

void an_exception_in_init()
{
    stk_config *config = stk_config_new();
    stk_pool *pool = nullptr;
    stk_error *e = nullptr;
    stk_config_add_app(config, STK_STR("throws"));
    stk_config_set_restart_limit(config, 0, 60000);
    FAILS(STK_START, "signal 6", stk_pool_start(config, &pool, &e));
    CHECK(pool == nullptr);
}

void texts_are_views()
{
    const std::string text = "stoker";
    const stk_str view{text.data(), text.size()};
    CHECK(stk_str_eq(view, STK_STR("stoker")) && !stk_str_eq(view, STK_STR("stoke")));
}

} // namespace

int main(int argc, char **argv)
{
    stk_app apps[2] = {};
    apps[0].struct_size = apps[1].struct_size = sizeof(stk_app);
    apps[0].name = "t", apps[0].call = app;
    apps[1].name = "throws", apps[1].call = app, apps[1].init = init;
    const test tests[] = {
        TEST(an_exception), TEST(an_exception_that_is_none), TEST(an_exit_of_the_thread), TEST(a_caught_exception),
        TEST(an_exception_in_init), TEST(texts_are_views),
    };
    stk_error *e = nullptr;
    if (stk_init(apps, 2, nullptr, &e)) return stk_error_print(e);
    return run_tests(tests, COUNT(tests), argc, argv);
}
