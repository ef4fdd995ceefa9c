import java.io.ByteArrayInputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.List;
import javax.xml.XMLConstants;
import javax.xml.parsers.DocumentBuilderFactory;
import org.w3c.dom.Document;
import org.w3c.dom.Element;
import org.w3c.dom.Node;
import org.w3c.dom.NodeList;

/**
 * Answers questions about documents until its standard input ends. A question is a count of fields, then each with its
 * length before it; an answer is one such text, whose first line is `valid` or `refused`.
 */
final class Oracle {
    static final String WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd";
    static final String WSU = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd";
    static final String DS = "http://www.w3.org/2000/09/xmldsig#";
    static final String XENC = "http://www.w3.org/2001/04/xmlenc#";
    static final String SAML2 = "urn:oasis:names:tc:SAML:2.0:assertion";
    private static final int LARGEST_FIELD = 64 * 1024 * 1024;

    private Oracle() {}

    interface Question {
        /** What was found, a line each; an exception is a refusal. */
        List<String> answer(byte[][] fields) throws Exception;
    }

    static void serve(Question question) throws IOException {
        DataInputStream in = new DataInputStream(System.in);
        DataOutputStream out = new DataOutputStream(System.out);
        while (true) {
            byte[][] fields;
            try {
                fields = new byte[in.readInt()][];
            } catch (EOFException ended) {
                return;
            }
            for (int number = 0; number < fields.length; number++) {
                int size = in.readInt();
                if (size < 0 || size > LARGEST_FIELD) {
                    throw new IOException("a field of " + size + " bytes");
                }
                fields[number] = in.readNBytes(size);
            }
            byte[] text = said(question, fields).getBytes(StandardCharsets.UTF_8);
            out.writeInt(text.length);
            out.write(text);
            out.flush();
        }
    }

    private static String said(Question question, byte[][] fields) {
        try {
            return "valid\n" + String.join("\n", question.answer(fields));
        } catch (Exception refusal) {
            StringBuilder reasons = new StringBuilder("refused\n");
            for (Throwable reason = refusal; reason != null; reason = reason.getCause()) {
                reasons.append(reason).append('\n');
            }
            return reasons.toString();
        }
    }

    static Document parse(byte[] document) throws Exception {
        DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
        factory.setNamespaceAware(true);
        factory.setFeature(XMLConstants.FEATURE_SECURE_PROCESSING, true);
        factory.setFeature("http://apache.org/xml/features/disallow-doctype-decl", true);
        return factory.newDocumentBuilder().parse(new ByteArrayInputStream(document));
    }

    /** The one element of that name in the whole document. */
    static Element only(Document document, String namespace, String name) {
        NodeList found = document.getElementsByTagNameNS(namespace, name);
        if (found.getLength() != 1) {
            throw new IllegalArgumentException(found.getLength() + " elements " + name + ", not one");
        }
        return (Element) found.item(0);
    }

    static List<Element> children(Element parent, String namespace, String name) {
        List<Element> found = new ArrayList<>();
        for (Node node = parent.getFirstChild(); node != null; node = node.getNextSibling()) {
            if (namespace.equals(node.getNamespaceURI()) && name.equals(node.getLocalName())) {
                found.add((Element) node);
            }
        }
        return found;
    }

    static X509Certificate certificate(byte[] der) throws Exception {
        return (X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(new ByteArrayInputStream(der));
    }

    static String name(Element element) {
        return "{" + element.getNamespaceURI() + "}" + element.getLocalName();
    }

    static String id(Element element) {
        String own = element.getAttributeNS(WSU, "Id");
        return own.isEmpty() ? element.getAttribute("Id") + element.getAttribute("ID") : own;
    }
}
