//! What a look from outside finds: versions, certificates, and what is not done.

use super::{
    NAME, certificate, client, dial, directory, exactly, s_client, start, try_dial, write,
};
use crate::support::{Certs, Proxy};
use openssl::ssl::{SslContextBuilder, SslVerifyMode, SslVersion};

#[test]
fn nothing_older_than_tls_1_2_is_spoken_and_nothing_is_compressed() {
    let certs = Certs::new();
    let proxy = start(&certs, "");
    for (version, is_spoken) in [
        ("-tls1", false),
        ("-tls1_1", false),
        ("-tls1_2", true),
        ("-tls1_3", true),
    ] {
        let arguments = [version, "-cipher", "ALL:@SECLEVEL=0", "-comp"];
        let Some(told) = s_client(proxy.address(), &arguments, "") else {
            return;
        };
        assert!(told.contains("CONNECTED"), "{version}: {told}");
        let has_cipher = !told.contains("Cipher is (NONE)");
        assert_eq!(has_cipher, is_spoken, "{version}: {told}");
        assert!(told.contains("Compression: NONE"), "{version}: {told}");
        if !is_spoken {
            let refusal = "alert protocol version";
            assert!(told.contains(refusal), "{version}: {told}");
        }
    }
}

/// A client that could renegotiate would have the work of a handshake done at each line that it sends.
#[test]
fn nobody_renegotiates() {
    let certs = Certs::new();
    let proxy = start(&certs, "");
    let Some(told) = s_client(proxy.address(), &["-tls1_2"], "R\n") else {
        return;
    };
    assert!(told.contains("RENEGOTIATING"), "{told}");
    assert!(told.contains("no renegotiation"), "{told}");
}

#[test]
fn no_status_of_the_certificate_is_stapled() {
    let certs = Certs::new();
    let proxy = start(&certs, "");
    let Some(told) = s_client(proxy.address(), &["-status"], "") else {
        return;
    };
    assert!(told.contains("OCSP response: no response sent"), "{told}");
}

#[test]
fn http_1_1_is_chosen_from_what_a_client_offers_and_nothing_else() {
    let certs = Certs::new();
    let proxy = start(&certs, "");
    for (offered, chosen) in [
        (&b"\x02h2\x08http/1.1"[..], Some(&b"http/1.1"[..])),
        (b"\x08http/1.1\x02h2", Some(b"http/1.1")),
        // It goes on without: what is spoken then is HTTP/1.1, as with those who offer nothing.
        (b"\x02h2", None),
        (b"\x08http/1.0", None),
        (b"", None),
    ] {
        let offering = client(|builder| {
            if !offered.is_empty() {
                builder.set_alpn_protos(offered).unwrap();
            }
        });
        let mut visitor = dial(proxy.address(), &offering, Some(NAME));
        let found = visitor.tls().ssl().selected_alpn_protocol();
        assert_eq!(found, chosen, "of {:?}", String::from_utf8_lossy(offered));
        visitor.send("GET / HTTP/1.1\r\nHost: front.example\r\n\r\n");
        visitor.answer_head().expect_status(404);
    }
}

fn trusting(certs: &Certs) -> impl Fn(&mut SslContextBuilder) {
    let authority = certs.authority().certificate().clone();
    move |builder| {
        builder
            .cert_store_mut()
            .add_cert(authority.clone())
            .unwrap();
        builder.set_verify(SslVerifyMode::PEER);
    }
}

#[test]
fn what_stands_behind_a_certificate_is_sent_with_it() {
    let certs = Certs::new();
    let between = certs.below();
    let identity = between.server(NAME);
    let trusting = client(trusting(&certs));
    let whole = [identity.pem(), between.pem()].concat();
    for (file, more, is_trusted) in [
        (identity.pem(), "", false),
        (whole.clone(), "", true),
        (identity.pem(), "SSLCertificateChainFile between.pem", true),
        (whole, "SSLCertificateChainFile ca.pem", true),
    ] {
        let directory = directory(&certs, &[]);
        directory.write("between.pem", between.pem());
        write(&directory, NAME, &identity);
        directory.write(&format!("{NAME}.pem"), file);
        let config = format!("Listen 127.0.0.1:0 https\n{}{more}", certificate(NAME));
        let proxy = Proxy::start_in(directory, config, "");
        let outcome = try_dial(proxy.address(), &trusting, Some(NAME));
        assert_eq!(outcome.is_ok(), is_trusted, "{more}: {outcome:?}");
        if let Ok(mut visitor) = outcome {
            let chain = visitor.tls().ssl().peer_cert_chain().unwrap();
            let sent: Vec<_> = chain.iter().map(|each| each.to_pem().unwrap()).collect();
            assert_eq!(sent, [identity.pem(), between.pem()], "{more}");
        }
    }
}

#[test]
fn of_two_certificates_a_client_sees_the_one_that_it_can_verify() {
    let certs = Certs::new();
    let between = certs.below();
    let directory = directory(&certs, &[]);
    let (rsa, ec) = (certs.rsa_server(NAME), between.server(NAME));
    write(&directory, "rsa", &rsa);
    write(&directory, "ec", &ec);
    // Each has its own chain.
    directory.write("ec.pem", [ec.pem(), between.pem()].concat());
    let config = format!(
        "Listen 127.0.0.1:0 https\n{}{}",
        certificate("rsa"),
        certificate("ec")
    );
    let proxy = Proxy::start_in(directory, config, "");
    for (version, kind, expected) in [
        (SslVersion::TLS1_2, "RSA+SHA256", vec![rsa.pem()]),
        (
            SslVersion::TLS1_2,
            "ECDSA+SHA256",
            vec![ec.pem(), between.pem()],
        ),
        (SslVersion::TLS1_3, "RSA-PSS+SHA256", vec![rsa.pem()]),
        (
            SslVersion::TLS1_3,
            "ECDSA+SHA256",
            vec![ec.pem(), between.pem()],
        ),
    ] {
        let choosy = client(|builder| {
            exactly(version)(builder);
            trusting(&certs)(builder);
            builder.set_sigalgs_list(kind).unwrap();
        });
        let mut visitor = dial(proxy.address(), &choosy, Some(NAME));
        let chain = visitor.tls().ssl().peer_cert_chain().unwrap();
        let sent: Vec<_> = chain.iter().map(|each| each.to_pem().unwrap()).collect();
        assert!(sent == expected, "{version:?} {kind}: {}", sent.len());
    }
}
