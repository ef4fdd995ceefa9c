import java.io.OutputStream;
import java.security.Provider;
import java.security.Security;
import java.util.Map;
import javax.xml.crypto.Data;
import javax.xml.crypto.OctetStreamData;
import javax.xml.crypto.XMLCryptoContext;
import javax.xml.crypto.XMLStructure;
import javax.xml.crypto.dsig.TransformException;
import javax.xml.crypto.dsig.TransformService;
import javax.xml.crypto.dsig.spec.TransformParameterSpec;

/** Attachment-Content-Signature-Transform (SwA profile 1.1, 4.4.2): the content of a part that is not text, as it is. */
public final class AttachmentTransform extends TransformService {
    static final String URI = "http://docs.oasis-open.org/wss/oasis-wss-SwAProfile-1.1#Attachment-Content-Signature-Transform";

    /** Makes it known to every XML Signature library that looks transforms up, as the JDK's and Santuario's do. */
    static void register() {
        Provider provider = new Provider("SwA", "1", "the attachment transform") {};
        String name = "TransformService";
        provider.put(name + "." + URI, AttachmentTransform.class.getName());
        provider.put(name + "." + URI + " MechanismType", "DOM");
        Security.addProvider(provider);
    }

    @Override
    public void init(TransformParameterSpec parameters) {}

    @Override
    public void init(XMLStructure parent, XMLCryptoContext context) {}

    @Override
    public void marshalParams(XMLStructure parent, XMLCryptoContext context) {}

    @Override
    public TransformParameterSpec getParameterSpec() {
        return null;
    }

    @Override
    public Data transform(Data data, XMLCryptoContext context) throws TransformException {
        if (data instanceof OctetStreamData) {
            return data;
        }
        throw new TransformException("not the octets of an attachment");
    }

    @Override
    public Data transform(Data data, XMLCryptoContext context, OutputStream out) throws TransformException {
        try (var octets = ((OctetStreamData) transform(data, context)).getOctetStream()) {
            octets.transferTo(out);
        } catch (java.io.IOException error) {
            throw new TransformException(error);
        }
        return null;
    }

    @Override
    public boolean isFeatureSupported(String feature) {
        return false;
    }
}
