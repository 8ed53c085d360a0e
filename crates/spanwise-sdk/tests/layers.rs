//! The layers around real servers and clients, over real sockets.

#![allow(clippy::unwrap_used)]

mod collected;

use std::net::SocketAddr;

use collected::{Collected, attribute, spans_of};
use opentelemetry::trace::{FutureExt, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_sdk::trace::SpanData;
use spanwise_sdk::layers::messaging::{Destination, process, receive, send};
use spanwise_sdk::layers::{ClientLayer, SendTraced, ServerLayer, database};
use spanwise_sdk::propagate::carriers::MessageHeaders;
use tokio::net::TcpListener;
use tower_layer::Layer;

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Runs `work` below a span of its own, and returns all spans of that trace, sorted by their start.
async fn trace<T>(kept: &Collected, work: impl Future<Output = T>) -> (T, Vec<SpanData>) {
    let tracer = kept.provider().tracer("test");
    let context = Context::new().with_span(tracer.start("test"));
    let trace_id = context.span().span_context().trace_id();
    let result = work.with_context(context.clone()).await;
    context.span().end();
    (result, spans_of(kept, trace_id).await)
}

fn find<'a>(spans: &'a [SpanData], name: &str, kind: SpanKind) -> &'a SpanData {
    let found = spans.iter().find(|span| span.name == name && span.span_kind == kind);
    found.unwrap_or_else(|| panic!("no {kind:?} {name} in {spans:#?}"))
}

#[tokio::test]
async fn a_request_through_reqwest_and_axum() {
    use axum::routing::get;
    let kept = Collected::global();
    let (listener, address) = listen().await;
    let inner = || async {
        spanwise_sdk::in_span("work", |span| span.set("n", 7));
        "ok"
    };
    let router = axum::Router::new()
        .route("/items/{id}", get(inner))
        .route("/fails", get(|| async { axum::http::StatusCode::INTERNAL_SERVER_ERROR }))
        .layer(ServerLayer::new());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let client = reqwest::Client::new();

    let url = format!("http://{address}/items/7?sig=secret");
    let (body, spans) =
        trace(&kept, async { client.get(url).send_traced().await.unwrap().text().await.unwrap() }).await;
    assert_eq!(body, "ok");
    let (call, request) = (find(&spans, "GET", SpanKind::Client), find(&spans, "GET /items/{id}", SpanKind::Server));
    let work = find(&spans, "work", SpanKind::Internal);
    assert_eq!(call.parent_span_id, find(&spans, "test", SpanKind::Internal).span_context.span_id());
    assert_eq!(request.parent_span_id, call.span_context.span_id());
    assert_eq!(work.parent_span_id, request.span_context.span_id());
    assert_eq!(attribute(request, "http.route"), "/items/{id}");
    assert_eq!(attribute(request, "url.query"), "sig=REDACTED");
    assert_eq!(attribute(request, "http.response.status_code"), "200");
    assert_eq!(attribute(call, "server.port"), address.port().to_string());
    assert!(attribute(call, "url.full").ends_with("/items/7?sig=REDACTED"));
    assert_eq!((&call.status, &request.status), (&Status::Unset, &Status::Unset));

    let url = format!("http://{address}/fails");
    let (_, spans) = trace(&kept, async { client.get(url).send_traced().await.unwrap() }).await;
    for kind in [SpanKind::Client, SpanKind::Server] {
        let span = spans.iter().find(|span| span.span_kind == kind).unwrap();
        assert_eq!((&span.status, attribute(span, "error.type").as_str()), (&Status::error(""), "500"));
    }
    let (result, spans) = trace(&kept, async { client.get("http://127.0.0.1:1/").send_traced().await }).await;
    assert!(result.is_err());
    assert!(matches!(find(&spans, "GET", SpanKind::Client).status, Status::Error { .. }));
}

#[tokio::test]
async fn a_request_of_a_stranger_is_continued() {
    let kept = Collected::global();
    let (listener, address) = listen().await;
    let router = axum::Router::new().fallback(|| async { "ok" }).layer(ServerLayer::new());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let trace_id = "80f198ee56343ba864fe8b2a57d3eff7";
    let request = reqwest::Client::new().request("BREW".parse().unwrap(), format!("http://{address}/pot"));
    let request = request.header("traceparent", format!("00-{trace_id}-e457b5a2e4d86bd1-01"));
    request.send().await.unwrap().bytes().await.unwrap();
    let spans = spans_of(&kept, opentelemetry::TraceId::from_hex(trace_id).unwrap()).await;
    let span = find(&spans, "HTTP", SpanKind::Server);
    assert_eq!(span.parent_span_id.to_string(), "e457b5a2e4d86bd1");
    assert!(span.parent_span_is_remote);
    assert_eq!(attribute(span, "http.request.method_original"), "BREW");
}

struct Refuses;

#[tonic::async_trait]
impl TraceService for Refuses {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        match request.into_inner().resource_spans.len() {
            0 => Ok(tonic::Response::new(ExportTraceServiceResponse::default())),
            _ => Err(tonic::Status::unavailable("come back later")),
        }
    }
}

#[tokio::test]
async fn grpc_both_ways() {
    let kept = Collected::global();
    let (listener, address) = listen().await;
    let service =
        tonic::transport::Server::builder().layer(ServerLayer::new()).add_service(TraceServiceServer::new(Refuses));
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    tokio::spawn(async move { service.serve_with_incoming(incoming).await.unwrap() });
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    let mut client = TraceServiceClient::new(ClientLayer::new().layer(channel));
    let method = "opentelemetry.proto.collector.trace.v1.TraceService/Export";

    let (result, spans) = trace(&kept, client.export(ExportTraceServiceRequest::default())).await;
    result.unwrap();
    let (call, request) = (find(&spans, method, SpanKind::Client), find(&spans, method, SpanKind::Server));
    assert_eq!(request.parent_span_id, call.span_context.span_id());
    for span in [call, request] {
        assert_eq!(attribute(span, "rpc.system.name"), "grpc");
        assert_eq!((attribute(span, "rpc.response.status_code").as_str(), &span.status), ("OK", &Status::Unset));
    }
    let refused = ExportTraceServiceRequest { resource_spans: vec![Default::default()] };
    let (result, spans) = trace(&kept, client.export(refused)).await;
    assert_eq!(result.unwrap_err().code(), tonic::Code::Unavailable);
    for kind in [SpanKind::Client, SpanKind::Server] {
        let span = find(&spans, method, kind);
        assert_eq!(attribute(span, "rpc.response.status_code"), "UNAVAILABLE");
        assert!(matches!(span.status, Status::Error { .. }));
    }
}

#[tokio::test]
async fn statements_and_their_errors() {
    let kept = Collected::global();
    let (_, spans) = trace(&kept, async {
        let statement = || database::Statement::new("sqlite", "SELECT * FROM items WHERE id = 7").namespace("shop");
        database::traced(statement(), async { Ok::<_, std::fmt::Error>(1) }).await.unwrap();
        let error = std::io::Error::other(std::io::Error::other("disk full"));
        database::traced(statement(), async { Err::<(), _>(error) }).await.unwrap_err();
    })
    .await;
    let statements: Vec<_> = spans.iter().filter(|span| span.name == "SELECT items").collect();
    let [good, bad] = statements[..] else { panic!("{spans:#?}") };
    assert_eq!(attribute(good, "db.query.text"), "SELECT * FROM items WHERE id = ?");
    assert_eq!((attribute(good, "db.namespace").as_str(), &good.status), ("shop", &Status::Unset));
    assert_eq!(bad.status, Status::error("disk full"));
    let exception = bad.events.iter().find(|event| event.name == "exception").unwrap();
    assert!(exception.attributes.contains(&KeyValue::new("exception.message", "disk full")));
}

#[tokio::test]
async fn messages_continue_a_trace_and_batches_link_to_it() {
    let kept = Collected::global();
    let orders = Destination::new("kafka", "orders").group("billing");
    let headers = |_| {
        let mut headers = Vec::<(String, Vec<u8>)>::new();
        drop(send(&orders, &mut MessageHeaders(&mut headers)));
        headers
    };
    let (sent, spans) = trace(&kept, async { [0, 1].map(headers) }).await;
    let sender = find(&spans, "send orders", SpanKind::Producer);
    let trace_id = sender.span_context.trace_id();
    drop(process(&orders, &MessageHeaders(sent[0].as_slice())));
    let spans = spans_of(&kept, trace_id).await;
    let worker = find(&spans, "process orders", SpanKind::Consumer);
    assert_eq!(worker.parent_span_id, sender.span_context.span_id());
    assert_eq!(attribute(worker, "messaging.consumer.group.name"), "billing");

    let (_, spans) = trace(&kept, async {
        let sent: Vec<_> = sent.iter().map(|headers| MessageHeaders(headers.as_slice())).collect();
        let batch = receive(&orders, &sent);
        batch.in_scope(|| drop(process(&orders, &sent[0])));
    })
    .await;
    let (batch, worker) =
        (find(&spans, "receive orders", SpanKind::Client), find(&spans, "process orders", SpanKind::Consumer));
    assert_eq!((batch.links.len(), worker.links.len()), (2, 1));
    assert_eq!(batch.links[0].span_context.trace_id(), trace_id);
    assert_eq!(worker.parent_span_id, batch.span_context.span_id());
    assert_eq!(attribute(batch, "messaging.batch.message_count"), "2");
}
