/* Answers the requests of tests/src/implementation/process.rs with the C library. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zmq.h>

#define SOCKETS_MAX 16
#define PARTS_MAX 16
#define HEARTBEAT_TIMEOUT_MS 20000

struct part {
    size_t size;
    char *bytes; /* with a zero behind the last one */
};

static const struct {
    const char *name;
    int type;
} kinds[] = {
    {"DEALER", ZMQ_DEALER}, {"PUB", ZMQ_PUB}, {"PULL", ZMQ_PULL},
    {"PUSH", ZMQ_PUSH},     {"REP", ZMQ_REP}, {"REQ", ZMQ_REQ},
    {"ROUTER", ZMQ_ROUTER}, {"SUB", ZMQ_SUB}, {"XPUB", ZMQ_XPUB},
};

static void *context;
static void *sockets[SOCKETS_MAX];
static int sockets_count;

static void give_up(const char *reason)
{
    fprintf(stderr, "%s\n", reason);
    exit(1);
}

/* Answers with the error of the library if a call failed; returns whether it succeeded. */
static int succeeded(int result)
{
    if (result != -1)
        return 1;
    const char *why = zmq_strerror(zmq_errno());
    printf("error %zu\n%s", strlen(why), why);
    return 0;
}

static int set(void *socket, int option, int value)
{
    return zmq_setsockopt(socket, option, &value, sizeof value);
}

static int open_socket(int heartbeat_ms, const struct part *parts)
{
    size_t kind = 0;
    while (strcmp(kinds[kind].name, parts[0].bytes) != 0)
        if (++kind == sizeof kinds / sizeof *kinds)
            give_up("no such socket type");
    if (sockets_count == SOCKETS_MAX)
        give_up("too many sockets");
    void *socket = zmq_socket(context, kinds[kind].type);
    if (socket == NULL)
        return -1;
    sockets[sockets_count++] = socket;
    if (set(socket, ZMQ_LINGER, 0) == -1)
        return -1;
    if (parts[1].size > 0
        && zmq_setsockopt(socket, ZMQ_ROUTING_ID, parts[1].bytes, parts[1].size) == -1)
        return -1;
    if (heartbeat_ms > 0
        && (set(socket, ZMQ_HEARTBEAT_IVL, heartbeat_ms) == -1
            || set(socket, ZMQ_HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS) == -1))
        return -1;
    return zmq_connect(socket, parts[2].bytes);
}

static int send_parts(void *socket, int ms, const struct part *parts, int count)
{
    if (set(socket, ZMQ_SNDTIMEO, ms) == -1)
        return -1;
    for (int at = 0; at < count; at++)
        if (zmq_send(socket, parts[at].bytes, parts[at].size, at + 1 < count ? ZMQ_SNDMORE : 0)
            == -1)
            return -1;
    return 0;
}

static void receive(void *socket, int ms)
{
    zmq_msg_t messages[PARTS_MAX];
    int count = 0;
    if (!succeeded(set(socket, ZMQ_RCVTIMEO, ms)))
        return;
    do {
        if (count == PARTS_MAX)
            give_up("too many parts");
        zmq_msg_init(&messages[count]);
        if (zmq_msg_recv(&messages[count], socket, 0) == -1) {
            if (zmq_errno() == EAGAIN)
                printf("silence\n");
            else
                succeeded(-1);
            return;
        }
    } while (zmq_msg_more(&messages[count++]));
    printf("ok");
    for (int at = 0; at < count; at++)
        printf(" %zu", zmq_msg_size(&messages[at]));
    printf("\n");
    for (int at = 0; at < count; at++) {
        fwrite(zmq_msg_data(&messages[at]), 1, zmq_msg_size(&messages[at]), stdout);
        zmq_msg_close(&messages[at]);
    }
}

static void handle(const char *verb, int number, int argument, const struct part *parts, int count)
{
    void *socket = number < sockets_count ? sockets[number] : NULL;
    int result = -1;
    if (strcmp(verb, "receive") == 0) {
        receive(socket, argument);
        return;
    }
    if (strcmp(verb, "open") == 0 && count == 3)
        result = open_socket(argument, parts);
    else if (strcmp(verb, "subscribe") == 0 && count == 1)
        result = zmq_setsockopt(socket, ZMQ_SUBSCRIBE, parts[0].bytes, parts[0].size);
    else if (strcmp(verb, "cancel") == 0 && count == 1)
        result = zmq_setsockopt(socket, ZMQ_UNSUBSCRIBE, parts[0].bytes, parts[0].size);
    else if (strcmp(verb, "send") == 0)
        result = send_parts(socket, argument, parts, count);
    else
        give_up("no such request");
    if (succeeded(result))
        printf("ok\n");
}

int main(void)
{
    char line[1024];
    context = zmq_ctx_new();
    while (fgets(line, sizeof line, stdin) != NULL) {
        struct part parts[PARTS_MAX];
        int count = 0;
        const char *verb = strtok(line, " \n"), *number = strtok(NULL, " \n");
        const char *argument = strtok(NULL, " \n"), *size;
        if (verb == NULL || number == NULL || argument == NULL)
            give_up("an incomplete request");
        while ((size = strtok(NULL, " \n")) != NULL) {
            if (count == PARTS_MAX)
                give_up("too many parts");
            parts[count++].size = strtoul(size, NULL, 10);
        }
        for (int at = 0; at < count; at++) {
            struct part *part = &parts[at];
            part->bytes = calloc(part->size + 1, 1);
            if (part->bytes == NULL || fread(part->bytes, 1, part->size, stdin) != part->size)
                give_up("the input ends in the middle of a request");
        }
        handle(verb, atoi(number), atoi(argument), parts, count);
        fflush(stdout);
        for (int at = 0; at < count; at++)
            free(parts[at].bytes);
    }
    return 0;
}
