"""A collector for tests: OTLP over HTTP and gRPC, with OpenTelemetry's own messages and the gRPC of grpcio."""

import contextlib
import gzip
import http.server
import socket
import threading
from concurrent import futures

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as rpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

SERVER, CLIENT, INTERNAL = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_INTERNAL


def plain(value):
    """The Python value of an attribute."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(one) for one in value.array_value.values]
    return getattr(value, kind)


def attributes(of):
    return {one.key: plain(one.value) for one in of.attributes}


class Collector:
    """Takes what comes, until it is closed. It can be opened again at the same port."""

    def __init__(self, protocol, port=0):
        self.protocol = protocol
        self.requests, self.headers, self.raw, self.connections = [], [], b"", []
        self.port = port
        self.open()

    def open(self):
        if self.protocol == "grpc":
            self.open_grpc()
        else:
            self.open_http()

    def take(self, request, raw, headers):
        self.requests.append(request)
        self.headers.append({name.lower(): value for name, value in headers})
        self.raw += raw
        return service.ExportTraceServiceResponse()

    def open_grpc(self):
        collector = self

        class Servicer(rpc.TraceServiceServicer):
            def Export(self, request, context):
                return collector.take(request, request.SerializeToString(), context.invocation_metadata())

        self.server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
        rpc.add_TraceServiceServicer_to_server(Servicer(), self.server)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        assert self.port, "the port is taken"
        self.server.start()

    def open_http(self):
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces", self.path
                assert self.headers["Content-Type"] == "application/x-protobuf"
                request = service.ExportTraceServiceRequest.FromString(body)
                answer = collector.take(request, body, self.headers.items()).SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def process_request(self, connection, address):
                collector.connections.append(connection)
                super().process_request(connection, address)

        self.server = Server(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        """As if it were killed: nobody listens any more."""
        if self.protocol == "grpc":
            self.server.stop(None).wait()
        else:
            self.server.shutdown()
            self.server.server_close()
            for connection in self.connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def environment(self):
        """What points a process at it."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}",
                "OTEL_EXPORTER_OTLP_PROTOCOL": self.protocol, "OTEL_BSP_SCHEDULE_DELAY": "100"}

    def resources(self):
        return [attributes(each.resource) for request in self.requests for each in request.resource_spans]

    def scopes(self):
        return [scope for request in self.requests for each in request.resource_spans for scope in each.scope_spans]

    def spans(self, trace_id=None):
        all_spans = [span for scope in self.scopes() for span in scope.spans]
        return [span for span in all_spans if trace_id in (None, span.trace_id.hex())]
