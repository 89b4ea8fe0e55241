//! From what a platform's manifest says of a capability to what hosts are told of it.

use heddle_protocol::defaults::CALL_TIMEOUT_MS;
use heddle_protocol::host_spec::CapabilityOffer;
use heddle_protocol::manifest;

/// What a capability lends; none if it is of no kind.
pub(super) fn offer_of(capability: &manifest::Capability) -> Option<CapabilityOffer> {
    if let Some(http) = &capability.http {
        return Some(CapabilityOffer::Http {
            listen: http.listen.clone(),
            max_connections: http.max_connections,
        });
    }
    if let Some(keyvalue) = &capability.keyvalue {
        return keyvalue_offer(keyvalue);
    }
    if let Some(blobstore) = &capability.blobstore {
        return blobstore_offer(blobstore);
    }
    if let Some(messaging) = &capability.messaging {
        return messaging_offer(messaging);
    }
    if let Some(postgres) = &capability.postgres {
        return Some(CapabilityOffer::Postgres {
            url: postgres.url.clone(),
            max_connections: postgres.max_connections,
        });
    }
    if let Some(wrpc) = &capability.wrpc {
        return Some(CapabilityOffer::Wrpc {
            prefix: wrpc.prefix.clone(),
            interfaces: wrpc.interfaces.clone(),
            timeout_ms: wrpc.timeout.map_or(CALL_TIMEOUT_MS, |t| t.as_ms()),
        });
    }
    if let Some(custom) = &capability.custom {
        return Some(CapabilityOffer::Custom {
            feature: custom.feature.clone(),
            interfaces: custom.interfaces.clone(),
            settings: custom.settings.clone(),
            shared: custom.shared,
        });
    }
    match (&capability.config, &capability.logging) {
        (Some(_), _) => Some(CapabilityOffer::Config {}),
        (_, Some(_)) => Some(CapabilityOffer::Logging {}),
        (None, None) => None,
    }
}

fn keyvalue_offer(keyvalue: &manifest::KeyvalueCapability) -> Option<CapabilityOffer> {
    let shared = keyvalue.shared;
    if let Some(nats) = &keyvalue.nats {
        return Some(CapabilityOffer::KeyvalueNats {
            bucket: nats.bucket.clone(),
            url: nats.url.clone(),
            shared,
        });
    }
    if let Some(redis) = &keyvalue.redis {
        return Some(CapabilityOffer::KeyvalueRedis {
            url: redis.url.clone(),
            prefix: redis.prefix.clone(),
            shared,
        });
    }
    keyvalue
        .memory
        .as_ref()
        .map(|_| CapabilityOffer::KeyvalueMemory { shared })
}

fn blobstore_offer(blobstore: &manifest::BlobstoreCapability) -> Option<CapabilityOffer> {
    let shared = blobstore.shared;
    if let Some(nats) = &blobstore.nats {
        return Some(CapabilityOffer::BlobstoreNats {
            bucket: nats.bucket.clone(),
            url: nats.url.clone(),
            quota_bytes: nats.quota.map(|quota| quota.as_bytes()),
            shared,
        });
    }
    blobstore
        .filesystem
        .as_ref()
        .map(|folder| CapabilityOffer::BlobstoreFilesystem {
            path: folder.path.clone(),
            quota_bytes: folder.quota.map(|quota| quota.as_bytes()),
            shared,
        })
}

fn messaging_offer(messaging: &manifest::MessagingCapability) -> Option<CapabilityOffer> {
    if let Some(nats) = &messaging.nats {
        return Some(CapabilityOffer::MessagingNats {
            url: nats.url.clone(),
            subjects: nats.subjects.clone(),
        });
    }
    messaging
        .jetstream
        .as_ref()
        .map(|jetstream| CapabilityOffer::MessagingJetstream {
            stream: jetstream.stream.clone(),
            url: jetstream.url.clone(),
            subjects: jetstream.lent_subjects(),
            dead_letters: jetstream.dead_letters.clone(),
        })
}
