import java.security.Key;
import java.util.ArrayList;
import java.util.List;
import javax.crypto.spec.SecretKeySpec;
import javax.xml.crypto.NodeSetData;
import javax.xml.crypto.dsig.Reference;
import javax.xml.crypto.dsig.XMLSignature;
import javax.xml.crypto.dsig.XMLSignatureFactory;
import javax.xml.crypto.dsig.dom.DOMValidateContext;
import org.w3c.dom.Attr;
import org.w3c.dom.Document;
import org.w3c.dom.Element;
import org.w3c.dom.NamedNodeMap;
import org.w3c.dom.NodeList;

/**
 * The JDK's own XML Signature, in secure validation. Fields: the document, the certificate that signs, the session key
 * that endorses (empty where there is none). A signature without KeyInfo is the endorsing one.
 */
final class JdkOracle {
    private static final XMLSignatureFactory SIGNATURES = XMLSignatureFactory.getInstance("DOM");

    private JdkOracle() {}

    public static void main(String[] arguments) throws Exception {
        Oracle.serve(JdkOracle::check);
    }

    private static List<String> check(byte[][] fields) throws Exception {
        Document document = Oracle.parse(fields[0]);
        Element security = Oracle.only(document, Oracle.WSSE, "Security");
        List<String> found = new ArrayList<>();
        for (Element signature : Oracle.children(security, Oracle.DS, "Signature")) {
            boolean endorsing = Oracle.children(signature, Oracle.DS, "KeyInfo").isEmpty();
            Key key = endorsing
                ? new SecretKeySpec(fields[2], "HmacSHA256")
                : Oracle.certificate(fields[1]).getPublicKey();
            found.addAll(covered(signature, key));
        }
        return found;
    }

    /** The signature's method, then each element that it covers, as this library resolved it. */
    static List<String> covered(Element signature, Key key) throws Exception {
        DOMValidateContext context = new DOMValidateContext(key, signature);
        context.setProperty("org.jcp.xml.dsig.secureValidation", Boolean.TRUE);
        context.setProperty("javax.xml.crypto.dsig.cacheReference", Boolean.TRUE);
        registerIds(context, signature.getOwnerDocument());
        XMLSignature read = SIGNATURES.unmarshalXMLSignature(context);
        if (!read.validate(context)) {
            throw new IllegalArgumentException("the signature does not hold: " + broken(read, context));
        }
        List<String> found = new ArrayList<>();
        found.add("signature " + read.getSignedInfo().getSignatureMethod().getAlgorithm());
        for (Object one : read.getSignedInfo().getReferences()) {
            Element reached = reached((Reference) one);
            found.add("covers " + Oracle.name(reached) + " " + Oracle.id(reached));
        }
        return found;
    }

    private static String broken(XMLSignature signature, DOMValidateContext context) throws Exception {
        List<String> reasons = new ArrayList<>();
        if (!signature.getSignatureValue().validate(context)) {
            reasons.add("its value");
        }
        for (Object one : signature.getSignedInfo().getReferences()) {
            Reference reference = (Reference) one;
            if (!reference.validate(context)) {
                reasons.add("the digest of " + reference.getURI());
            }
        }
        return String.join(", ", reasons);
    }

    /** The apex of what was digested; its attributes stand before it. */
    private static Element reached(Reference reference) {
        for (Object node : (NodeSetData<?>) reference.getDereferencedData()) {
            if (node instanceof Element) {
                return (Element) node;
            }
        }
        throw new IllegalArgumentException("a reference to no element: " + reference.getURI());
    }

    private static void registerIds(DOMValidateContext context, Document document) {
        NodeList all = document.getElementsByTagNameNS("*", "*");
        for (int number = 0; number < all.getLength(); number++) {
            Element element = (Element) all.item(number);
            NamedNodeMap attributes = element.getAttributes();
            for (int place = 0; place < attributes.getLength(); place++) {
                Attr attribute = (Attr) attributes.item(place);
                String namespace = attribute.getNamespaceURI();
                String name = attribute.getLocalName();
                boolean named = Oracle.WSU.equals(namespace) && "Id".equals(name)
                    || namespace == null && ("Id".equals(name) || "ID".equals(name));
                if (named) {
                    element.setIdAttributeNode(attribute, true);
                }
            }
        }
    }
}
