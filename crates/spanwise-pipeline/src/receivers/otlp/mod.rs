//! `otlp`: OTLP over gRPC and HTTP.

mod admission;
mod config;
mod grpc;
mod http;

use std::sync::Arc;

use async_trait::async_trait;

use crate::component::{Build, BuildContext, BuildError, Factory, Kind, Outputs, Receiver, prepare};
use crate::config::Signal;
use crate::net::Listener;
use admission::Admission;
pub use config::{GrpcConfig, HttpConfig, OtlpConfig};

pub const FACTORY: Factory = Factory {
    kind: Kind::Receiver,
    name: "otlp",
    aliases: &[],
    stability: "stable",
    summary: "OTLP over gRPC (4317) and HTTP (4318).",
    signals: Signal::ALL,
    schema: || schemars::schema_for!(OtlpConfig),
    prepare: |node, path, errors| {
        prepare::<OtlpConfig>(node, path, errors, OtlpConfig::check, |config| {
            Build::Receiver(Box::new(move |context| Ok(Box::new(OtlpReceiver::bind(&config, context)?))))
        })
    },
};

struct OtlpReceiver {
    context: BuildContext,
    grpc: Option<(GrpcConfig, Listener)>,
    http: Option<(HttpConfig, Listener)>,
}

impl OtlpReceiver {
    fn bind(config: &OtlpConfig, context: BuildContext) -> Result<Self, BuildError> {
        let bind = |name: &str, endpoint: &str, tls: Option<&crate::net::ServerTls>, alpn: &[&[u8]]| {
            let tls = tls
                .map(|tls| tls.build(alpn))
                .transpose()
                .map_err(|error| context.error(format!("{name}: {error}")))?;
            let listener = Listener::bind(endpoint, tls).map_err(|error| context.error(error))?;
            let address = listener.address().map_err(|error| context.error(error))?;
            context.listeners.add(name, address);
            Ok(listener)
        };
        let grpc = match &config.protocols.grpc {
            Some(grpc) => Some((grpc.clone(), bind("otlp_grpc", &grpc.endpoint, grpc.tls.as_ref(), &[b"h2"])?)),
            None => None,
        };
        let http = match &config.protocols.http {
            Some(http) => {
                Some((http.clone(), bind("otlp_http", &http.endpoint, http.tls.as_ref(), &[b"h2", b"http/1.1"])?))
            }
            None => None,
        };
        Ok(Self { context, grpc, http })
    }
}

#[async_trait]
impl Receiver for OtlpReceiver {
    async fn start(self: Box<Self>, next: Outputs) -> Result<(), BuildError> {
        let Self { context, grpc, http } = *self;
        if let Some((config, listener)) = grpc {
            let admission = Arc::new(Admission::new(&context, next.clone(), "grpc", config.message_bytes()));
            context.tasks.spawn(grpc::serve(listener, config, admission, context.clone()));
        }
        if let Some((config, listener)) = http {
            let admission = Arc::new(Admission::new(&context, next, "http", config.body_bytes()));
            context.tasks.spawn(http::serve(listener, config, admission, context.clone()));
        }
        Ok(())
    }
}
