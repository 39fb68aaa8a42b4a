//! The addresses to which the steps send the secret.

use super::*;

#[test]
fn the_secret_goes_nowhere_in_clear_text_and_follows_no_redirect() -> Result<()> {
    use std::io::{Read, Write};
    let mut run = Run::new(Trigger::GitOps)?;
    run.since = "2026-01-01T00:00:00Z".into();
    for url in
        ["http://testrelay.example/testrelay", "http://127.0.0.1.example/testrelay", "testrelay.example"]
    {
        run.agent.environment.insert("TESTRELAY_URL".into(), url.into());
        let ended = run.report()?;
        assert_eq!(ended.code, Some(1));
        assert!(ended.said.contains("TESTRELAY_URL must begin with https"), "{}", ended.said);
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    run.agent.environment.insert("TESTRELAY_URL".into(), format!("http://{address}/testrelay"));
    let balancer = std::thread::spawn(move || -> Result<usize> {
        let mut requests = 0;
        for stream in listener.incoming() {
            let mut stream = stream?;
            let mut head = [0; 4_096];
            let read = stream.read(&mut head)?;
            if head[..read].starts_with(b"END") {
                break;
            }
            requests += 1;
            let answer = format!(
                "HTTP/1.1 301 Moved\r\nlocation: https://{address}/\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>"
            );
            stream.write_all(answer.as_bytes())?;
        }
        Ok(requests)
    });
    let ended = run.report()?;
    std::net::TcpStream::connect(address)?.write_all(b"END")?;
    let requests = balancer.join().map_err(|_| anyhow::anyhow!("the load balancer"))??;
    assert_eq!((ended.code, requests), (Some(1), 1), "{}", ended.said);
    assert!(ended.said.contains("HTTP 301") && ended.said.contains("could not be read"), "{}", ended.said);
    run.envoy.stop()
}
