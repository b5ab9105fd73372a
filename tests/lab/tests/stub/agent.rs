//! A stub of the agent for tests of `vtep-lab demo`: its command line and answers, without any function.

#![expect(clippy::print_stdout, reason = "the test reads what it prints")]

use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    net::TcpListener,
};

fn main() -> io::Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    println!("stub: {}", arguments.join(" "));
    match arguments.first().map(String::as_str) {
        Some("run") => serve(&arguments),
        _ => Ok(()),
    }
}

/// Unhealthy at first, healthy from the third request on.
fn serve(arguments: &[String]) -> io::Result<()> {
    let address = arguments.iter().skip_while(|argument| *argument != "--listen").nth(1);
    let listener = TcpListener::bind(address.ok_or(io::ErrorKind::InvalidInput)?)?;
    for (number, stream) in listener.incoming().enumerate() {
        let mut stream = stream?;
        let mut request = BufReader::new(stream.try_clone()?).lines();
        while request.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        let status = if number < 2 { "503 Service Unavailable" } else { "200 OK" };
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")?;
    }
    Ok(())
}
