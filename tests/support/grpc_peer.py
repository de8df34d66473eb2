"""The service and the client of `grpc.rs` by grpcio, so that two implementations must agree on what goes through.

    grpc_peer.py serve                 prints its port, then serves until its input ends
    grpc_peer.py ask ADDRESS HOST TOKEN PATH    makes a call of every kind, and prints what came of each as JSON
"""

import json
import sys
import threading
from concurrent import futures

import grpc

SECONDS = 30


def plain(message):
    return message


def serve():
    def echo(messages, context):
        yield from messages

    def total(messages, context):
        yield str(sum(len(message) for message in messages)).encode()

    def count(messages, context):
        for number in range(int(next(messages))):
            yield str(number + 1).encode()

    def fail(messages, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now: \u00e9, 100 %")
        yield b""

    def wait(messages, context):
        ended = threading.Event()
        context.add_callback(ended.set)
        context.send_initial_metadata(())
        ended.wait(SECONDS)
        yield b""

    methods = {"echo": echo, "sum": total, "count": count, "fail": fail, "wait": wait}

    class Every(grpc.GenericRpcHandler):
        def service(self, call):
            method = methods[call.method.rsplit("/", 1)[-1]]
            return grpc.stream_stream_rpc_method_handler(method, plain, plain)

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    server.add_generic_rpc_handlers([Every()])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(None)


def outcome(call):
    try:
        return call()
    except grpc.RpcError as error:
        return {"code": error.code().name, "details": error.details()}


def ask(address, host, token, path):
    channel = grpc.insecure_channel(address, options=[("grpc.default_authority", host), ("grpc.enable_retries", 0)])
    proven = [("authorization", "Bearer " + token)]

    def method(kind, name):
        return getattr(channel, kind)(path + name, plain, plain)

    def chat():
        answers, sent = [], iter([b"one", b"two", b"three"])
        turn = threading.Semaphore(1)

        def messages():
            for message in sent:
                turn.acquire()
                yield message

        for answer in method("stream_stream", "echo")(messages(), metadata=proven, timeout=SECONDS):
            answers.append(answer.decode())
            turn.release()
        return answers

    def cancelled():
        call = method("unary_stream", "wait")(b"x", metadata=proven, timeout=SECONDS)
        # One that is cancelled before it was sent never gets there; this one has begun to be answered.
        call.initial_metadata()
        call.cancel()
        return {"code": call.code().name}

    results = {
        "unary": outcome(lambda: method("unary_unary", "echo")(b"hello", metadata=proven, timeout=SECONDS).decode()),
        "client stream": outcome(
            lambda: method("stream_unary", "sum")(iter([b"a" * 100000] * 120), metadata=proven, timeout=SECONDS).decode()
        ),
        "server stream": outcome(
            lambda: [m.decode() for m in method("unary_stream", "count")(b"3", metadata=proven, timeout=SECONDS)]
        ),
        "both": outcome(chat),
        "status": outcome(lambda: method("unary_unary", "fail")(b"", metadata=proven, timeout=SECONDS)),
        "deadline": outcome(lambda: method("unary_unary", "wait")(b"", metadata=proven, timeout=2)),
        "cancelled": outcome(cancelled),
        "no token": outcome(lambda: method("unary_unary", "echo")(b"", timeout=SECONDS)),
        "no route": outcome(
            lambda: channel.unary_unary("/nowhere/echo", plain, plain)(b"", metadata=proven, timeout=SECONDS)
        ),
    }
    print(json.dumps(results))


if sys.argv[1] == "serve":
    serve()
else:
    ask(*sys.argv[2:])
