//! What `OTEL_*` variables say. See `docs/sdk.md` for the whole table.
//!
//! Empty variables count as unset. A value that cannot be used is reported and the default holds: telemetry never keeps
//! a program from starting.

use std::time::Duration;

use opentelemetry_sdk::trace::SpanLimits;
use spanwise_propagate::{Format, Propagator};

use crate::sampling::{HeadSampler, RateLimit, RemoteOptions, RemoteSampler, Root, Threshold};
use crate::tls::Tls;

/// Where spans go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exporter {
    OtlpHttp,
    OtlpGrpc,
    Console,
    None,
}

/// How the receiver of OTLP is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    pub(crate) is_https: bool,
    /// Of one request.
    pub(crate) timeout: Duration,
    pub(crate) tls: Tls,
}

/// How spans wait to be exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Queue {
    pub(crate) capacity: usize,
    pub(crate) batch: usize,
    pub(crate) delay: Duration,
    pub(crate) timeout: Duration,
}

impl Default for Queue {
    fn default() -> Self {
        let (delay, timeout) = (Duration::from_secs(5), Duration::from_secs(30));
        Self { capacity: 2048, batch: 512, delay, timeout }
    }
}

/// More spans than this are never held, whatever the environment says.
const MAX_QUEUE: usize = 1_000_000;

#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) disabled: bool,
    pub(crate) exporter: Exporter,
    pub(crate) connection: Connection,
    pub(crate) propagator: Propagator,
    pub(crate) sampler: HeadSampler,
    /// To be asked for its strategy.
    pub(crate) remote: Option<RemoteSampler>,
    pub(crate) queue: Queue,
    pub(crate) limits: SpanLimits,
    /// Characters of an attribute's text; longer ones are cut.
    pub(crate) value_length: Option<usize>,
    pub(crate) warnings: Vec<String>,
}

impl Settings {
    /// From a look-up of variables.
    pub(crate) fn read(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut reader = Reader { variable, warnings: Vec::new() };
        let (sampler, remote) = reader.sampler();
        Self {
            disabled: reader.text("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true")),
            exporter: reader.exporter(),
            connection: reader.connection(),
            propagator: reader.propagator(),
            sampler,
            remote,
            queue: reader.queue(),
            limits: reader.limits(),
            value_length: reader
                .number("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT")
                .or_else(|| reader.number("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT")),
            warnings: {
                reader.not_honoured();
                reader.warnings
            },
        }
    }

    pub(crate) fn from_environment() -> Self {
        Self::read(&|name| std::env::var(name).ok())
    }
}

struct Reader<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    warnings: Vec<String>,
}

impl Reader<'_> {
    fn text(&self, name: &str) -> Option<String> {
        (self.variable)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn number<T: std::str::FromStr>(&mut self, name: &str) -> Option<T> {
        let text = self.text(name)?;
        let number = text.parse().ok();
        if number.is_none() {
            self.warnings.push(format!("cannot use {name}={text:?}: not a number that fits"));
        }
        number
    }

    fn exporter(&mut self) -> Exporter {
        let protocol = self.otlp("PROTOCOL").unwrap_or_else(|| "http/protobuf".into());
        let otlp = match protocol.as_str() {
            "http/protobuf" => Exporter::OtlpHttp,
            "grpc" if cfg!(feature = "grpc") => Exporter::OtlpGrpc,
            other => {
                self.warnings.push(format!(
                    "cannot use OTLP protocol {other:?}: http/protobuf is used (known: http/protobuf, grpc)"
                ));
                Exporter::OtlpHttp
            }
        };
        let names = self.text("OTEL_TRACES_EXPORTER").unwrap_or_else(|| "otlp".into());
        let mut chosen = None;
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let exporter = match name {
                "otlp" => otlp,
                "console" | "logging" => Exporter::Console,
                "none" => Exporter::None,
                other => {
                    self.warnings.push(format!("cannot use trace exporter {other:?}: known are otlp, console, none"));
                    continue;
                }
            };
            if chosen.is_some_and(|chosen| chosen != exporter) {
                self.warnings.push(format!("cannot use trace exporter {name:?} beside another one: the first is used"));
            }
            chosen = chosen.or(Some(exporter));
        }
        // Nothing that can be used is not the same as nothing wanted.
        chosen.unwrap_or(otlp)
    }

    /// `OTEL_EXPORTER_OTLP_TRACES_…`, or that of all signals.
    fn otlp(&self, name: &str) -> Option<String> {
        let of_traces = self.text(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"));
        of_traces.or_else(|| self.text(&format!("OTEL_EXPORTER_OTLP_{name}")))
    }

    fn connection(&mut self) -> Connection {
        let is_https = self.otlp("ENDPOINT").is_some_and(|endpoint| endpoint.starts_with("https:"));
        let timeout = self
            .number("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
            .or_else(|| self.number("OTEL_EXPORTER_OTLP_TIMEOUT"))
            .map_or(Duration::from_secs(10), Duration::from_millis);
        let file = |name| self.otlp(name).map(std::path::PathBuf::from);
        let (trusted, certificate, key) = (file("CERTIFICATE"), file("CLIENT_CERTIFICATE"), file("CLIENT_KEY"));
        if certificate.is_some() != key.is_some() {
            self.warnings.push(
                "cannot use a client certificate without its key: OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and \
                 OTEL_EXPORTER_OTLP_CLIENT_KEY belong together"
                    .into(),
            );
        }
        let tls = Tls { trusted, identity: certificate.zip(key) };
        if !cfg!(feature = "tls") && (is_https || tls != Tls::default()) {
            self.warnings.push("cannot send OTLP over https: spanwise-sdk is built without its feature tls".into());
        }
        Connection { is_https, timeout, tls }
    }

    fn propagator(&mut self) -> Propagator {
        let Some(names) = self.text("OTEL_PROPAGATORS") else { return Propagator::default() };
        let (propagator, unknown) = Propagator::from_names(&names);
        self.warnings.extend(unknown.map(|unknown| unknown.to_string()));
        // The headers of the specification, if none of the names meant anything.
        let is_none = names.split(',').any(|name| name.trim() == "none");
        if propagator.injects().is_empty() && !is_none {
            return Propagator::new([Format::TraceContext, Format::Baggage]);
        }
        propagator
    }

    fn sampler(&mut self) -> (HeadSampler, Option<RemoteSampler>) {
        let name = self.text("OTEL_TRACES_SAMPLER").unwrap_or_else(|| "parentbased_always_on".into());
        let argument = self.text("OTEL_TRACES_SAMPLER_ARG");
        let argument = argument.as_deref();
        let (root_name, follows) = match name.strip_prefix("parentbased_") {
            Some(root) => (root, true),
            None => (name.as_str(), false),
        };
        let mut remote = None;
        let root = match root_name {
            "always_on" => Root::AlwaysOn,
            "always_off" => Root::AlwaysOff,
            "traceidratio" => self.probability(argument),
            "ratelimiting" => match argument.and_then(|text| text.parse::<f64>().ok()) {
                Some(rate) if rate >= 0.0 => Root::RateLimit(RateLimit::new(rate).into()),
                _ => {
                    self.bad_argument(argument, "traces a second are needed: 100 is used");
                    Root::RateLimit(RateLimit::new(100.0).into())
                }
            },
            "jaeger_remote" => {
                let options = RemoteOptions::parse(argument.unwrap_or_default()).unwrap_or_else(|error| {
                    self.bad_argument(argument, &error);
                    RemoteOptions::default()
                });
                let sampler = RemoteSampler::new(options);
                remote = Some(sampler.clone());
                Root::Remote(sampler)
            }
            _ => {
                self.warnings.push(format!(
                    "cannot use sampler {name:?}: parentbased_always_on is used (known: always_on, always_off, \
                     traceidratio, ratelimiting, jaeger_remote, each also with parentbased_ before it)"
                ));
                return (HeadSampler::parent_based(Root::AlwaysOn), None);
            }
        };
        (if follows { HeadSampler::parent_based(root) } else { HeadSampler::independent(root) }, remote)
    }

    fn probability(&mut self, argument: Option<&str>) -> Root {
        match argument.map(str::parse::<f64>) {
            Some(Ok(0.0)) => Root::AlwaysOff,
            Some(Ok(share)) if Threshold::from_probability(share).is_some() => {
                Threshold::from_probability(share).map_or(Root::AlwaysOn, Root::Probability)
            }
            _ => {
                self.bad_argument(argument, "a share between 0 and 1 is needed: 1 is used");
                Root::AlwaysOn
            }
        }
    }

    fn bad_argument(&mut self, argument: Option<&str>, why: &str) {
        self.warnings.push(format!("cannot use OTEL_TRACES_SAMPLER_ARG={:?}: {why}", argument.unwrap_or_default()));
    }

    fn queue(&mut self) -> Queue {
        let default = Queue::default();
        let capacity = self.number("OTEL_BSP_MAX_QUEUE_SIZE").unwrap_or(default.capacity).clamp(1, MAX_QUEUE);
        let batch = self.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE").unwrap_or(default.batch).clamp(1, capacity);
        let mut time = |name, default| self.number(name).map_or(default, Duration::from_millis);
        let delay = time("OTEL_BSP_SCHEDULE_DELAY", default.delay);
        let timeout = time("OTEL_BSP_EXPORT_TIMEOUT", default.timeout);
        Queue { capacity, batch, delay, timeout }
    }

    fn limits(&mut self) -> SpanLimits {
        let default = SpanLimits::default();
        let all = self.number("OTEL_ATTRIBUTE_COUNT_LIMIT");
        let mut limit = |name, default| self.number(name).unwrap_or(default);
        SpanLimits {
            max_attributes_per_span: limit(
                "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
                all.unwrap_or(default.max_attributes_per_span),
            ),
            max_events_per_span: limit("OTEL_SPAN_EVENT_COUNT_LIMIT", default.max_events_per_span),
            max_links_per_span: limit("OTEL_SPAN_LINK_COUNT_LIMIT", default.max_links_per_span),
            max_attributes_per_event: limit("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", default.max_attributes_per_event),
            max_attributes_per_link: limit("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", default.max_attributes_per_link),
        }
    }

    /// Asked for, but not to be had here: better said than ignored.
    fn not_honoured(&mut self) {
        if self.text("OTEL_CONFIG_FILE").is_some() {
            self.warnings.push("cannot use OTEL_CONFIG_FILE: it is not supported".into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Settings {
        Settings::read(&|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn defaults() {
        let settings = read(&[("OTEL_TRACES_EXPORTER", ""), ("OTEL_PROPAGATORS", " ")]);
        assert_eq!(
            (settings.exporter, settings.queue, settings.disabled),
            (Exporter::OtlpHttp, Queue::default(), false)
        );
        assert_eq!(settings.propagator, Propagator::default());
        assert!(settings.warnings.is_empty());
    }

    #[test]
    fn what_cannot_be_used_is_reported_and_the_default_holds() {
        for (name, value, part) in [
            ("OTEL_TRACES_EXPORTER", "zipkin", "cannot use trace exporter \"zipkin\""),
            ("OTEL_TRACES_EXPORTER", "otlp,console", "beside another one"),
            ("OTEL_PROPAGATORS", "zipkin", "cannot use propagators zipkin"),
            ("OTEL_TRACES_SAMPLER", "sometimes", "cannot use sampler \"sometimes\""),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "-1", "not a number"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "cannot use OTLP protocol"),
            ("OTEL_CONFIG_FILE", "x.yaml", "not supported"),
        ] {
            let settings = read(&[(name, value)]);
            assert!(settings.warnings.iter().any(|warning| warning.contains(part)), "{:?}", settings.warnings);
            assert_eq!((settings.exporter, settings.queue), (Exporter::OtlpHttp, Queue::default()));
            assert_eq!(settings.propagator, Propagator::default());
        }
    }

    #[test]
    fn of_several_propagators_the_last_is_preferred() {
        let propagator = read(&[("OTEL_PROPAGATORS", "jaeger,tracecontext,baggage")]).propagator;
        assert_eq!(propagator.extracts(), [Format::Baggage, Format::TraceContext, Format::Jaeger]);
        assert_eq!(propagator.injects(), [Format::Jaeger, Format::TraceContext, Format::Baggage]);
    }

    #[test]
    fn samplers() {
        let sampler = |name, argument| {
            let settings = read(&[("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", argument)]);
            (format!("{:?}", settings.sampler), settings.warnings.len(), settings.remote.is_some())
        };
        let is = |name, argument, part: &str, warnings| {
            let found = sampler(name, argument);
            assert!(found.0.contains(part) && found.1 == warnings, "{name} {argument}: {found:?}");
        };
        is("always_off", "", "AlwaysOff, follows_parent: false", 0);
        is("parentbased_always_on", "", "AlwaysOn, follows_parent: true", 0);
        is("parentbased_traceidratio", "0.25", "Probability(Threshold(54043195528445952)), follows_parent: true", 0);
        is("traceidratio", "0", "AlwaysOff", 0);
        is("traceidratio", "2", "AlwaysOn", 1);
        is("traceidratio", "NaN", "AlwaysOn", 1);
        is("ratelimiting", "10", "per_second: 10.0", 0);
        is("parentbased_jaeger_remote", "endpoint=http://h:1", "http://h:1", 0);
        assert!(sampler("jaeger_remote", "").2);
    }

    #[test]
    fn connections() {
        let connection = |variables: &[(&str, &str)]| {
            let settings = read(variables);
            (settings.connection, settings.warnings.len())
        };
        let plain = Connection { is_https: false, timeout: Duration::from_secs(10), tls: Tls::default() };
        assert_eq!(connection(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4318")]), (plain.clone(), 0));
        let all = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4318"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://h:4318/v1/traces"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "ca.pem"),
            ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "traces.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "we.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "key.pem"),
        ];
        let identity = Some(("we.pem".into(), "key.pem".into()));
        let tls = Tls { trusted: Some("traces.pem".into()), identity };
        let expected = Connection { is_https: true, timeout: Duration::from_secs(2), tls };
        assert_eq!(connection(&all), (expected, usize::from(!cfg!(feature = "tls"))));
        assert_eq!(connection(&[("OTEL_EXPORTER_OTLP_CLIENT_KEY", "key.pem")]), (plain, 1));
    }

    #[test]
    fn sizes() {
        let settings = read(&[
            ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
            ("OTEL_BSP_SCHEDULE_DELAY", "250"),
            ("OTEL_ATTRIBUTE_COUNT_LIMIT", "7"),
            ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "9"),
            ("OTEL_SDK_DISABLED", "TRUE"),
            ("OTEL_TRACES_EXPORTER", "none"),
        ]);
        assert_eq!((settings.queue.capacity, settings.queue.batch), (100, 100));
        assert_eq!(settings.queue.delay, Duration::from_millis(250));
        assert_eq!((settings.limits.max_attributes_per_span, settings.value_length), (7, Some(9)));
        assert_eq!((settings.disabled, settings.exporter), (true, Exporter::None));
    }
}
