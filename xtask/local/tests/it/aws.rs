//! As much of an AWS client as these tests need, without an SDK.

use std::io::{Cursor, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// Calls the local AWS; the signature of a root key is not looked at.
pub(crate) struct Client {
    port: u16,
}

impl Client {
    pub(crate) fn root(port: u16) -> Client {
        Client { port }
    }

    pub(crate) fn sqs(&self, action: &str, body: &str) -> String {
        self.json("sqs", &format!("AmazonSQS.{action}"), body)
    }

    fn json(&self, service: &str, target: &str, body: &str) -> String {
        let headers = format!("Content-Type: application/x-amz-json-1.0\r\nX-Amz-Target: {target}");
        self.send(service, "POST", "/", &headers, body)
    }

    fn query(&self, service: &str, body: &str) -> String {
        let headers = "Content-Type: application/x-www-form-urlencoded";
        self.send(service, "POST", "/", headers, body)
    }

    fn send(&self, service: &str, method: &str, path: &str, headers: &str, body: &str) -> String {
        let port = self.port;
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=test/20200101/us-east-1/{service}/aws4_request, \
             SignedHeaders=host, Signature=0\r\n\
             Content-Length: {length}\r\n{headers}\r\n\r\n{body}"
        );
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        body.to_owned()
    }

    pub(crate) fn create_function(&self, name: &str, bootstrap: &str) {
        let role = r#"{"Statement": []}"#;
        self.query(
            "iam",
            &format!("Action=CreateRole&RoleName={name}&AssumeRolePolicyDocument={role}"),
        );
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        let executable = SimpleFileOptions::default().unix_permissions(0o755);
        archive.start_file("bootstrap", executable).expect("an entry");
        archive.write_all(bootstrap.as_bytes()).expect("its text");
        let code = BASE64_STANDARD.encode(archive.finish().expect("a zip").into_inner());
        let body = format!(
            r#"{{"FunctionName": "{name}", "Runtime": "provided.al2023", "Handler": "bootstrap",
                "Role": "arn:aws:iam::000000000000:role/{name}", "Timeout": 60,
                "Code": {{"ZipFile": "{code}"}}}}"#
        );
        let made = self.send("lambda", "POST", "/2015-03-31/functions", "Accept: */*", &body);
        assert!(made.contains("FunctionArn"), "{made}");
    }

    pub(crate) fn invoke_async(&self, name: &str) {
        let path = format!("/2015-03-31/functions/{name}/invocations");
        let answer = self.send("lambda", "POST", &path, "X-Amz-Invocation-Type: Event", "{}");
        assert_eq!(answer, "");
    }

    /// Makes a queue the function's destination for what fails.
    pub(crate) fn send_failures(&self, name: &str, queue: &str) {
        let path = format!("/2019-09-25/functions/{name}/event-invoke-config");
        let body = format!(
            r#"{{"DestinationConfig": {{"OnFailure": {{"Destination": "{queue}"}}}},
                "MaximumRetryAttempts": 0}}"#
        );
        let made = self.send("lambda", "PUT", &path, "Accept: */*", &body);
        assert!(made.contains("FunctionArn"), "{made}");
    }

    /// All that a function printed.
    pub(crate) fn log_of(&self, name: &str) -> String {
        let body = format!(r#"{{"logGroupName": "/aws/lambda/{name}"}}"#);
        self.json("logs", "Logs_20140328.FilterLogEvents", &body)
    }
}

/// Written by a process of its own: a file that this one has open for writing could be inherited
/// by what another test starts just then, and a program that is open for writing does not run.
pub(crate) fn write_program(path: &Path, text: &str) {
    let written = Command::new("sh")
        .args(["-c", r#"printf %s "$2" > "$1" && chmod 755 "$1""#, "sh"])
        .arg(path)
        .arg(text)
        .status()
        .expect("sh");
    assert!(written.success());
}
