// The Java SDK as an agent would use it. Verbs and outputs are those of every client here; see tests/README.md.

import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import software.amazon.awssdk.awscore.exception.AwsServiceException;
import software.amazon.awssdk.core.sync.RequestBody;
import software.amazon.awssdk.http.auth.aws.signer.AwsV4HttpSigner;
import software.amazon.awssdk.services.glue.GlueClient;
import software.amazon.awssdk.services.kms.KmsClient;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.awssdk.services.s3.auth.scheme.S3AuthSchemeProvider;
import software.amazon.awssdk.services.s3.model.ChecksumAlgorithm;
import software.amazon.awssdk.services.s3.model.PutObjectRequest;
import software.amazon.awssdk.services.s3.model.S3Object;
import software.amazon.awssdk.services.sts.StsClient;

final class Client {
    public static void main(String[] args) {
        switch (args[0]) {
            case "sts" -> System.out.println(StsClient.create().getCallerIdentity().arn());
            case "s3" -> s3(args[1], args[2], Path.of(args[3]), Path.of(args[4]), args.length > 5 ? args[5] : "");
            case "keys" -> keys(args[1], args[2], args[3], Arrays.copyOfRange(args, 4, args.length));
            case "list" -> list(args[1], args[2], args[3]);
            case "kms" -> kms(args[1]);
            case "denied" -> denied();
            default -> throw new IllegalArgumentException("unknown verb " + args[0]);
        }
    }

    /** `mode`: what of the body is signed; nothing if it is empty, as the SDK does it over TLS. */
    private static void s3(String bucket, String key, Path from, Path to, String mode) {
        PutObjectRequest.Builder put = PutObjectRequest.builder().bucket(bucket).key(key);
        // The default of versions from 2.30 on.
        if (mode.contains("trailer")) {
            put.checksumAlgorithm(ChecksumAlgorithm.CRC32);
        }
        try (S3Client client = mode.contains("signed") ? signing() : S3Client.create()) {
            client.putObject(put.build(), RequestBody.fromFile(from));
        }
        try (S3Client client = S3Client.create()) {
            client.getObject(b -> b.bucket(bucket).key(key), to);
        }
    }

    /** Signs bodies over TLS too, chunk by chunk. */
    private static S3Client signing() {
        S3AuthSchemeProvider usual = S3AuthSchemeProvider.defaultProvider();
        return S3Client.builder()
            .authSchemeProvider(params -> usual.resolveAuthScheme(params).stream()
                .map(option -> option.toBuilder()
                    .putSignerProperty(AwsV4HttpSigner.PAYLOAD_SIGNING_ENABLED, true)
                    .putSignerProperty(AwsV4HttpSigner.CHUNK_ENCODING_ENABLED, true)
                    .build())
                .toList())
            .build();
    }

    private static void keys(String bucket, String from, String to, String[] keys) {
        try (S3Client client = S3Client.create()) {
            for (int n = 0; n < keys.length; n++) {
                String key = keys[n];
                client.putObject(b -> b.bucket(bucket).key(key), RequestBody.fromFile(Path.of(from, "" + n)));
            }
            for (int n = 0; n < keys.length; n++) {
                String key = keys[n];
                client.getObject(b -> b.bucket(bucket).key(key), Path.of(to, "" + n));
            }
        }
    }

    private static void list(String bucket, String prefix, String delimiter) {
        try (S3Client client = S3Client.create()) {
            var keys = client.listObjectsV2(b -> b.bucket(bucket).prefix(prefix).delimiter(delimiter)).contents();
            System.out.println(json(keys.stream().map(S3Object::key).toArray(String[]::new)));
        }
    }

    /** A key made, and its description read back. */
    private static void kms(String description) {
        try (KmsClient client = KmsClient.create()) {
            String id = client.createKey(b -> b.description(description)).keyMetadata().keyId();
            System.out.println(client.describeKey(b -> b.keyId(id)).keyMetadata().description());
        }
    }

    /** What each call of a session that may do nothing gets: name, code, message, request id. */
    private static void denied() {
        Map<String, Supplier<Object>> calls = new LinkedHashMap<>();
        calls.put("query", () -> StsClient.create().getCallerIdentity());
        calls.put("json", () -> KmsClient.create().listKeys());
        calls.put("json, glue", () -> GlueClient.create().getDatabases(b -> {}));
        calls.put("rest-xml", () -> S3Client.create().listObjectsV2(b -> b.bucket("tollgate-test")));
        calls.put("rest-xml, put", () -> S3Client.create().putObject(
            b -> b.bucket("tollgate-test").key("denied"), RequestBody.fromBytes(new byte[100000])));
        calls.forEach((name, call) -> {
            try {
                call.get();
                System.out.println(json(name, null, null, null));
            } catch (AwsServiceException e) {
                var error = e.awsErrorDetails();
                System.out.println(json(name, error.errorCode(), error.errorMessage(), e.requestId()));
            }
        });
    }

    private static String json(String... values) {
        return Arrays.stream(values).map(Client::quoted).collect(Collectors.joining(",", "[", "]"));
    }

    private static String quoted(String text) {
        return text == null ? "null" : '"' + text.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    }
}
