/* A daemon and its client, which share nothing but a path: the child serves a library of apps, the parent calls it.
 * Usage: served PATH-OF-LIBRARY PATH-OF-SOCKET; the socket's directory is yours alone (rights 700), or is made. */
#define _POSIX_C_SOURCE 200809L /* fork, kill, nanosleep */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "stokehold.h"

/* What `stokehold serve --app-library LIBRARY --socket PATH` does. */
static int serve(const char *library, stk_str path)
{
    stk_error *e = NULL;
    if (stk_init(NULL, 0, NULL, &e)) return stk_error_print(e);
    stk_config *config = stk_config_new();
    stk_config_set_app_library(config, stk_str_from(library));
    if (stk_pool_serve(config, path, &e)) return stk_error_print(e);
    return 0; /* SIGTERM came, and all is gone */
}

int main(int argc, char **argv)
{
    stk_error *e = NULL;
    stk_client *client = NULL;
    stk_result *result;
    int64_t letters;
    int status = 0;

    if (argc != 3) return fprintf(stderr, "usage: served PATH-OF-LIBRARY PATH-OF-SOCKET\n"), 2;
    const stk_str path = stk_str_from(argv[2]);
    const pid_t daemon = fork();
    if (daemon == 0) return serve(argv[1], path);

    for (int tries = 0; stk_client_connect_path(path, STK_WAIT_ADAPTIVE, &client, &e); tries++) {
        if (tries == 3000) return stk_error_print(e);
        stk_error_free(e), e = NULL; /* it is not there yet */
        nanosleep(&(const struct timespec){.tv_nsec = 10000000}, NULL);
    }
    stk_args *args = stk_args_new(client);
    stk_args_push_str(args, STK_STR("boiler"));
    if (stk_execute(client, STK_STR("letters"), STK_STR("count"), args, NULL, &result, &e)) return stk_error_print(e);
    if (stk_result_i64(result, &letters)) return 1;
    printf("%" PRId64 " letters\n", letters);

    stk_result_free(result);
    stk_client_free(client);
    kill(daemon, SIGTERM);
    if (waitpid(daemon, &status, 0) != daemon || !WIFEXITED(status)) return 1;
    printf("the daemon ended with %d\n", WEXITSTATUS(status));
    return WEXITSTATUS(status);
}
