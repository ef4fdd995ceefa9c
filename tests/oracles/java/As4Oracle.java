import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.zip.GZIPInputStream;
import javax.xml.crypto.OctetStreamData;
import javax.xml.crypto.URIDereferencer;
import javax.xml.crypto.dsig.Reference;
import javax.xml.crypto.dsig.XMLSignature;
import javax.xml.crypto.dsig.XMLSignatureFactory;
import javax.xml.crypto.dsig.dom.DOMValidateContext;
import org.apache.ws.security.WSSConfig;
import org.w3c.dom.Document;
import org.w3c.dom.Element;
import org.w3c.dom.NodeList;

/**
 * An AS4 receiver from other people's parts: Jakarta Mail takes the package apart, Santuario verifies what is signed, the
 * attachment too, java.util.zip inflates. The first field is the question: `message` (content type, body, certificate),
 * `receipt` (the receipt's envelope, then the message as before), or `compose` (see {@link As4Composer}).
 */
final class As4Oracle {
    private static final String EB = "http://docs.oasis-open.org/ebxml-msg/ebms/v3.0/ns/core/200704/";
    private static final String EBBP = "http://docs.oasis-open.org/ebxml-bp/ebbp-signals-2.0";

    private As4Oracle() {}

    public static void main(String[] arguments) throws Exception {
        WSSConfig.init();
        AttachmentTransform.register();
        Oracle.serve(fields -> switch (new String(fields[0], StandardCharsets.US_ASCII)) {
            case "message" -> message(fields[1], fields[2], fields[3]);
            case "receipt" -> receipt(fields[1], fields[2], fields[3], fields[4]);
            case "compose" -> As4Composer.compose(fields);
            default -> throw new IllegalArgumentException("no such question");
        });
    }

    private static List<String> message(byte[] contentType, byte[] body, byte[] certificate) throws Exception {
        Attachments package_ = new Attachments(new String(contentType, StandardCharsets.UTF_8), body);
        Document document = Oracle.parse(package_.root);
        XMLSignature signature = verified(document, package_.parts, certificate);
        List<String> found = new ArrayList<>();
        found.add("signature " + signature.getSignedInfo().getSignatureMethod().getAlgorithm());
        for (Object one : signature.getSignedInfo().getReferences()) {
            String uri = ((Reference) one).getURI();
            if (uri.startsWith("#")) {
                Element reached = document.getElementById(uri.substring(1));
                found.add("covers " + Oracle.name(reached) + " " + Oracle.id(reached));
            } else {
                found.add("attached " + contentId(uri) + " " + sha256(package_.parts.get(contentId(uri))));
            }
        }
        Element messaging = Oracle.only(document, EB, "Messaging");
        for (String place : List.of("MessageProperties", "PartProperties")) {
            for (Element properties : elements(messaging, EB, place)) {
                for (Element property : Oracle.children(properties, EB, "Property")) {
                    found.add(place + " " + property.getAttribute("name") + " " + hex(property.getTextContent()));
                }
            }
        }
        for (Element part : elements(messaging, EB, "PartInfo")) {
            String contentId = contentId(part.getAttribute("href"));
            byte[] content = package_.parts.get(contentId);
            try (GZIPInputStream inflated = new GZIPInputStream(new ByteArrayInputStream(content))) {
                found.add("document " + contentId + " " + sha256(inflated.readAllBytes()));
            } catch (IOException notGzip) {
                found.add("no-document " + contentId);
            }
        }
        return found;
    }

    /** The receipt's references, each of which is one of the verified message's own, and none is missing. */
    private static List<String> receipt(byte[] receipt, byte[] contentType, byte[] body, byte[] certificate) throws Exception {
        Attachments package_ = new Attachments(new String(contentType, StandardCharsets.UTF_8), body);
        Document document = Oracle.parse(package_.root);
        List<String> signed = new ArrayList<>();
        for (Object one : verified(document, package_.parts, certificate).getSignedInfo().getReferences()) {
            Reference reference = (Reference) one;
            signed.add(reference.getURI() + " " + hex(reference.getDigestValue()));
        }
        List<String> acknowledged = new ArrayList<>();
        Document answer = Oracle.parse(receipt);
        for (Element part : elements(Oracle.only(answer, EBBP, "NonRepudiationInformation"), EBBP, "MessagePartNRInformation")) {
            Element reference = Oracle.children(part, Oracle.DS, "Reference").get(0);
            Element digest = Oracle.children(reference, Oracle.DS, "DigestValue").get(0);
            acknowledged.add(reference.getAttribute("URI") + " " + hex(Base64.getMimeDecoder().decode(digest.getTextContent())));
        }
        if (!List.copyOf(signed).stream().sorted().toList().equals(acknowledged.stream().sorted().toList())) {
            throw new IllegalArgumentException("acknowledged " + acknowledged + " of " + signed);
        }
        List<String> found = new ArrayList<>();
        acknowledged.forEach(one -> found.add("acknowledged " + one));
        found.add("refers " + Oracle.only(answer, EB, "RefToMessageId").getTextContent());
        return found;
    }

    /** The one signature of the message, every reference of which holds; the key is that of the certificate it must be by. */
    private static XMLSignature verified(Document document, Map<String, byte[]> parts, byte[] der) throws Exception {
        X509Certificate certificate = Oracle.certificate(der);
        Element token = Oracle.only(document, Oracle.WSSE, "BinarySecurityToken");
        if (!certificate.equals(Oracle.certificate(Base64.getMimeDecoder().decode(token.getTextContent())))) {
            throw new IllegalArgumentException("the message names another certificate");
        }
        XMLSignatureFactory factory = XMLSignatureFactory.getInstance("DOM", "ApacheXMLDSig");
        Element element = Oracle.only(document, Oracle.DS, "Signature");
        DOMValidateContext context = new DOMValidateContext(certificate.getPublicKey(), element);
        context.setProperty("org.apache.jcp.xml.dsig.secureValidation", true);
        NodeList all = document.getElementsByTagName("*");
        for (int number = 0; number < all.getLength(); number++) {
            if (((Element) all.item(number)).hasAttributeNS(Oracle.WSU, "Id")) {
                ((Element) all.item(number)).setIdAttributeNS(Oracle.WSU, "Id", true);
            }
        }
        URIDereferencer elements = factory.getURIDereferencer();
        context.setURIDereferencer((place, crypto) -> contentId(place.getURI()) == null
            ? elements.dereference(place, crypto)
            : new OctetStreamData(new ByteArrayInputStream(parts.get(contentId(place.getURI())))));
        XMLSignature signature = factory.unmarshalXMLSignature(context);
        if (!signature.validate(context)) {
            StringBuilder why = new StringBuilder("value " + signature.getSignatureValue().validate(context));
            for (Object one : signature.getSignedInfo().getReferences()) {
                why.append(", ").append(((Reference) one).getURI()).append(' ').append(((Reference) one).validate(context));
            }
            throw new IllegalArgumentException("does not hold: " + why);
        }
        return signature;
    }

    private static List<Element> elements(Element parent, String namespace, String name) {
        NodeList found = parent.getElementsByTagNameNS(namespace, name);
        List<Element> all = new ArrayList<>();
        for (int number = 0; number < found.getLength(); number++) {
            all.add((Element) found.item(number));
        }
        return all;
    }

    /** The Content-ID that a cid: URL names (RFC 2392), null for another one. */
    private static String contentId(String url) {
        return url.startsWith("cid:") ? URLDecoder.decode(url.substring(4).replace("+", "%2B"), StandardCharsets.UTF_8) : null;
    }

    private static String sha256(byte[] content) throws Exception {
        return hex(MessageDigest.getInstance("SHA-256").digest(content));
    }

    private static String hex(String text) {
        return hex(text.getBytes(StandardCharsets.UTF_8));
    }

    private static String hex(byte[] content) {
        return HexFormat.of().formatHex(content);
    }
}
