//! The client of iControl REST at a stand-in for a BIG-IP, and the commands that use it. Needs no root.

mod certificates;
mod command;
mod differences;
mod limits;
mod records_of_one_tunnel;
mod refusals;
mod what_is_read;

use std::time::Duration;

use serde_json::Value;
use vtep_agent::icontrol::{
    Credentials, Failure, Fetched, MAX_REQUESTS, Secret, Server, Trust, authorities, read as read_icontrol,
};
use vtep_bigip::{
    BigIp, Certificate, Device, Fault, Matcher, Options, PASSWORD, Profile, SelfIp, TOKEN, Times, Tunnel, USER,
};

/// Long enough for any answer of the stand-in.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The collections of an ordinary BIG-IP.
const COLLECTIONS: usize = 8;

const TUNNELS: &str = "/mgmt/tm/net/tunnels/tunnel";
const FDB: &str = "/mgmt/tm/net/fdb/tunnel";
const RECORDS: &str = "/mgmt/tm/net/fdb/tunnel/~Common~cilium/records";

fn start(device: Device) -> BigIp {
    BigIp::start(device).expect("a BIG-IP")
}

fn password(password: &str) -> Credentials {
    Credentials::Password { user: USER.into(), password: Secret::parse(password).expect("a password") }
}

fn trust(bigip: &BigIp) -> Trust {
    Trust::Authorities(authorities(bigip.trusted_pem().as_bytes()).expect("certificates"))
}

async fn read_as(bigip: &BigIp, credentials: Credentials, trust: Trust) -> Result<Fetched, Failure> {
    let server = Server::parse(&bigip.url()).expect("a URL");
    read_icontrol(&server, credentials, trust, TIMEOUT).await
}

async fn read(bigip: &BigIp) -> Result<Fetched, Failure> {
    read_as(bigip, password(PASSWORD), trust(bigip)).await
}

/// The sentence for a BIG-IP that answers each request with this fault.
async fn sentence(fault: Fault) -> String {
    let bigip = start(Device::cilium());
    bigip.misbehave(Matcher::all(), fault, Times::Always);
    read(&bigip).await.expect_err("nothing can be read").to_string()
}

fn paths(fetched: &Fetched) -> Vec<&str> {
    fetched.responses.iter().map(|response| response.url_path.as_str()).collect()
}

/// The number of items in the answers to one path.
fn items(fetched: &Fetched, path: &str) -> usize {
    let of_path = fetched.responses.iter().filter(|response| response.url_path == path);
    let values = of_path.map(|response| serde_json::from_str::<Value>(&response.body).expect("JSON"));
    values.map(|value| value["items"].as_array().map_or(0, Vec::len)).sum()
}
