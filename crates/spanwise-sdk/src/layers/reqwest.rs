//! reqwest: `client.get(url).send_traced().await` instead of `.send()`.

use opentelemetry::trace::{FutureExt, TraceContextExt};

use super::{body, client, names};

/// Sends a request as a span of the active trace.
pub trait SendTraced {
    /// As `send`; the context goes along in the headers.
    fn send_traced(self) -> impl Future<Output = Result<reqwest::Response, reqwest::Error>> + Send;
}

impl SendTraced for reqwest::RequestBuilder {
    async fn send_traced(self) -> Result<reqwest::Response, reqwest::Error> {
        let (client, request) = self.build_split();
        let mut request = request?;
        // Both were checked by the builder; a URL that `http` cannot hold goes out untraced.
        let Ok(uri) = request.url().as_str().parse::<http::Uri>() else { return client.execute(request).await };
        let context = client::start(request.method(), &uri, request.headers(), None);
        crate::inject(&context, request.headers_mut());
        let result = client.execute(request).with_context(context.clone()).await;
        match &result {
            Ok(response) => names::set_http_status(&context.span(), response.status(), 400),
            Err(error) => body::failed::<reqwest::Error>(&context, error.to_string()),
        }
        context.span().end();
        result
    }
}
