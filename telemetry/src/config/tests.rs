//! What the environment says, and what it may not say.

use super::*;

fn read(variables: &[(&str, &str)], endpoint: Option<&str>) -> Result<Config, Error> {
    let find = |name: &str| {
        let found = variables.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    Config::read(&find, endpoint, Wanted::Configured)
}

fn targets(variables: &[(&str, &str)], endpoint: Option<&str>) -> [Option<String>; 2] {
    let config = read(variables, endpoint).expect("valid");
    [config.traces, config.metrics]
        .map(|target| target.map(|t| format!("{:?} {}", t.protocol, t.endpoint)))
}

#[test]
fn without_an_endpoint_nothing_is_exported() {
    assert_eq!(targets(&[], None), [None, None]);
}

#[test]
fn an_endpoint_for_all_signals_gets_the_signals_path() {
    let both = targets(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/x/")], None);
    let expected = |path| Some(format!("HttpProtobuf http://c:4318/x/v1/{path}"));
    assert_eq!(both, [expected("traces"), expected("metrics")]);
}

#[test]
fn the_endpoint_of_a_signal_is_used_as_it_is_and_wins() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:9/own"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
    ];
    let [traces, metrics] = targets(&variables, None);
    assert_eq!(traces.as_deref(), Some("HttpJson http://t:9/own"));
    assert_eq!(metrics.as_deref(), Some("Grpc http://c:4317"));
    let [traces, _] = targets(&variables, Some("http://flag:4318"));
    assert_eq!(
        traces.as_deref(),
        Some("HttpJson http://flag:4318/v1/traces")
    );
}

#[test]
fn a_signal_may_be_switched_off() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"),
        ("OTEL_METRICS_EXPORTER", "none"),
    ];
    assert_eq!(targets(&variables, None)[1], None);
    let all_off = [variables[0], ("OTEL_SDK_DISABLED", "true")];
    assert_eq!(targets(&all_off, None), [None, None]);
}

#[test]
fn headers_and_resource_attributes_are_percent_decoded() {
    let config = read(
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"),
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "Authorization=Basic%20YQ==, x = 1",
            ),
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "service.name=shop,deployment.environment.name=a%2Cb",
            ),
        ],
        None,
    );
    let config = config.expect("valid");
    let headers = config.traces.expect("a target").headers;
    let expected = [("authorization", "Basic YQ=="), ("x", "1")];
    assert_eq!(headers, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    assert_eq!(config.resource.service_name.as_deref(), Some("shop"));
    let attribute = ("deployment.environment.name".to_owned(), "a,b".to_owned());
    assert_eq!(config.resource.attributes, [attribute]);
}

#[test]
fn samplers_are_those_of_the_specification() {
    let sampler = |name: &str, arg: &str| {
        let variables = [
            ("OTEL_TRACES_SAMPLER", name),
            ("OTEL_TRACES_SAMPLER_ARG", arg),
        ];
        read(&variables, None).map(|c| (c.spans.head.parent_based, c.spans.head.ratio))
    };
    assert_eq!(sampler("", ""), Ok((true, 1.0)));
    assert_eq!(sampler("always_off", ""), Ok((false, 0.0)));
    assert_eq!(
        sampler("parentbased_traceidratio", "0.25"),
        Ok((true, 0.25))
    );
    assert!(sampler("traceidratio", "2").is_err());
    assert!(sampler("sometimes", "").is_err());
}

#[test]
fn pairs_are_read_as_they_were_written() {
    let pairs = [("a", "1, 2;\"3\" = 100%"), ("b", ""), ("ü", "größer\\ \n")];
    let read = read_pairs(&write_pairs(pairs[..2].iter().copied()));
    let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
    assert_eq!(read, Some(pairs[..2].iter().map(owned).collect()));
    let values = [("a", pairs[2].1)];
    let read = read_pairs(&write_pairs(values.into_iter()));
    assert_eq!(read, Some(values.iter().map(owned).collect()));
}

#[test]
fn what_cannot_be_done_is_said_with_the_name_of_the_variable() {
    let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317");
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "smoke"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        (
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
            "differential",
        ),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1s"),
    ] {
        let error = read(&[base, (name, value)], None).expect_err(name);
        assert!(error.to_string().starts_with(name), "{error}");
    }
    assert!(read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4317")], None).is_err());
}
