import jakarta.activation.DataHandler;
import jakarta.mail.internet.MimeBodyPart;
import jakarta.mail.internet.MimeMultipart;
import jakarta.mail.util.ByteArrayDataSource;
import java.io.ByteArrayOutputStream;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.PrivateKey;
import java.security.cert.Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import java.util.List;
import javax.xml.crypto.dsig.DigestMethod;
import javax.xml.crypto.dsig.Reference;
import javax.xml.crypto.dsig.XMLSignatureFactory;
import javax.xml.crypto.dsig.spec.TransformParameterSpec;
import javax.xml.transform.TransformerFactory;
import javax.xml.transform.dom.DOMSource;
import javax.xml.transform.stream.StreamResult;
import org.apache.ws.security.WSConstants;
import org.apache.ws.security.WSEncryptionPart;
import org.apache.ws.security.components.crypto.Merlin;
import org.apache.ws.security.message.WSSecHeader;
import org.apache.ws.security.message.WSSecSignature;
import org.w3c.dom.Document;

/** An AS4 sender from other people's parts: WSS4J signs an envelope in its own way, Jakarta Mail packs it. */
final class As4Composer {
    private static final String EB = "http://docs.oasis-open.org/ebxml-msg/ebms/v3.0/ns/core/200704/";
    private static final String USER = "signer";

    private As4Composer() {}

    /** Fields: how parts are encoded, the unsigned envelope, the key and its certificate, a Content-ID, its content. */
    static List<String> compose(byte[][] fields) throws Exception {
        String encoding = new String(fields[1], StandardCharsets.US_ASCII);
        String contentId = new String(fields[5], StandardCharsets.US_ASCII);
        byte[] envelope = signed(Oracle.parse(fields[2]), crypto(fields[3], fields[4]), contentId, fields[6]);

        MimeMultipart multipart = new MimeMultipart("related; type=\"application/soap+xml\"; start=\"<root@java>\"");
        multipart.setPreamble("This is a MIME message; the preamble says nothing.");
        multipart.addBodyPart(part(envelope, "application/soap+xml; charset=UTF-8", "root@java", encoding));
        MimeBodyPart attached = part(fields[6], "application/gzip", contentId, encoding);
        attached.setHeader("Content-Description", "a header that is folded, as mail programs fold it: "
            + "word ".repeat(20).strip().replace("word word word word word ", "word word word word word\r\n\t"));
        attached.setFileName("Lohnabrechnung März.xml.gz");
        multipart.addBodyPart(attached);
        ByteArrayOutputStream body = new ByteArrayOutputStream();
        multipart.writeTo(body);
        String contentType = multipart.getContentType().replaceAll("\\r?\\n[ \\t]+", " ");
        return List.of("content-type " + contentType, "body " + Base64.getEncoder().encodeToString(body.toByteArray()));
    }

    private static MimeBodyPart part(byte[] content, String type, String contentId, String encoding) throws Exception {
        MimeBodyPart part = new MimeBodyPart();
        part.setDataHandler(new DataHandler(new ByteArrayDataSource(content, type)));
        part.setHeader("Content-Type", type);
        part.setHeader("Content-Transfer-Encoding", encoding);
        part.setContentID("<" + contentId + ">");
        return part;
    }

    private static byte[] signed(Document document, Merlin crypto, String contentId, byte[] content) throws Exception {
        WSSecHeader header = new WSSecHeader();
        header.insertSecurityHeader(document);
        WSSecSignature signature = new WSSecSignature();
        signature.setUserInfo(USER, "");
        signature.setKeyIdentifierType(WSConstants.BST_DIRECT_REFERENCE);
        signature.setSignatureAlgorithm("http://www.w3.org/2001/04/xmldsig-more#rsa-sha256");
        signature.setDigestAlgo(DigestMethod.SHA256);
        signature.prepare(document, crypto, header);
        List<Reference> references = signature.addReferencesToSign(List.of(
            new WSEncryptionPart("Body", WSConstants.URI_SOAP12_ENV, "Element"),
            new WSEncryptionPart("EncryptedAssertion", Oracle.SAML2, "Element"),
            new WSEncryptionPart("Messaging", EB, "Element")), header);
        references.add(0, attachment(contentId, content));
        signature.computeSignature(references, true, null);
        signature.prependBSTElementToHeader(header);
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        TransformerFactory.newInstance().newTransformer().transform(new DOMSource(document), new StreamResult(out));
        return out.toByteArray();
    }

    private static Reference attachment(String contentId, byte[] content) throws Exception {
        XMLSignatureFactory factory = XMLSignatureFactory.getInstance("DOM", "ApacheXMLDSig");
        return factory.newReference(
            "cid:" + URLEncoder.encode(contentId, StandardCharsets.US_ASCII),
            factory.newDigestMethod(DigestMethod.SHA256, null),
            List.of(factory.newTransform(AttachmentTransform.URI, (TransformParameterSpec) null)),
            null,
            null,
            MessageDigest.getInstance("SHA-256").digest(content));
    }

    private static Merlin crypto(byte[] key, byte[] certificate) throws Exception {
        PrivateKey own = KeyFactory.getInstance("RSA").generatePrivate(new PKCS8EncodedKeySpec(key));
        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(null, null);
        store.setKeyEntry(USER, own, new char[0], new Certificate[] {Oracle.certificate(certificate)});
        Merlin crypto = new Merlin();
        crypto.setKeyStore(store);
        return crypto;
    }
}
